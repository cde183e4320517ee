"""Show what a model package or a bag holds.

lemumo inspect PACKAGE
lemumo inspect BAG
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.bags.reader import BagReader
from lemumo_core.command_line import run_function
from lemumo_core.inference.package import MANIFEST_NAME, load_package


def inspect(path: Path) -> None:
    """Print what a model package or a bag holds.

    Args:
        path: folder of the package; folder or file of the bag.
    """
    if (path / MANIFEST_NAME).exists():
        for key, value in vars(load_package(path).manifest).items():
            print(f"{key:22} {value}")
        return
    with BagReader(path) as reader:
        seconds = (reader.end_ns - reader.start_ns) / 1e9
        print(f"{path}: {seconds:.1f} s")
        for topic in reader.topics:
            print(f"  {topic.name:40} {topic.type:40} {topic.count:6}  {topic.frame_id}")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo inspect``; return its exit code."""
    return run_function("lemumo inspect", inspect, arguments, __doc__)
