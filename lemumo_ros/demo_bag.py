"""The bag of the demo: rendered where none is given, and the topics that the node takes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.command_line import run_function
from lemumo_core.data.sources.registry import open_source

FRAMES = 40
STREET = {
    **{"seed": 28, "frames": FRAMES, "frames_per_drive": FRAMES, "rate_hz": 10.0},
    **{"width": 960, "height": 352},
}


def default_bag() -> Path:
    """Return the demo's own bag of a rendered street, rendered where it is missing."""
    path = Path("out/bags/street")
    if not path.exists():
        print(f"demo: rendering {FRAMES} frames of a street", file=sys.stderr, flush=True)
        source = open_source("synthetic", **STREET)
        write_bag((source[index] for index in range(len(source))), path)
    return path


def launch_arguments(bag: Path) -> dict[str, str]:
    """Return the arguments with which ``perception.launch.py`` takes a bag.

    Raises:
        Fault: as ``find_topics``.
    """
    with BagReader(bag) as reader:
        topics = find_topics(reader)
        kinds = {topic.name: topic.type for topic in reader.topics}
    compressed = kinds[topics.image].endswith("CompressedImage")
    image = topics.image.removesuffix("/compressed") if compressed else topics.image
    points = "depth_image" if topics.depth_info else "points"
    found = {"image": image, "camera_info": topics.camera_info, points: topics.points}
    found |= {
        "depth_info": topics.depth_info,
        "thermal": topics.thermal,
        "thermal_info": topics.thermal_info,
    }
    flags = {"compressed": str(compressed).lower(), "bag": str(bag.resolve())}
    return {name: topic for name, topic in found.items() if topic} | flags


def demo_bag(bag: Path | None = None) -> int:
    """Print the launch arguments of a bag as JSON.

    Args:
        bag: folder or file; by default the demo's own.
    """
    print(json.dumps(launch_arguments(bag or default_bag())))
    return 0


def main(arguments: list[str]) -> int:
    """Run ``demo_bag``; return its exit code."""
    return run_function("demo_bag", demo_bag, arguments)
