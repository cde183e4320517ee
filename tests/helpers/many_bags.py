"""Short bags, many of them, and what commands make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lemumo_core.bags.writer import write_bag
from tests.helpers.small_frames import small_frames

NOT_THE_SAME = {"timings.parquet", "index.html"}
"""Files of a replay that hold times, which differ from run to run."""


def write_many_bags(folder: Path, count: int, first: int = 0) -> None:
    """Write bags of one or two frames, ``bag000`` and so on, each of other frames."""
    for number in range(first, first + count):
        frames = small_frames(1 + number % 2, step_ns=100_000_000 + number)
        shifted = [replace(one, stamp_ns=one.stamp_ns + number * 10**9) for one in frames]
        scans = [replace(one.companion, stamp_ns=one.stamp_ns) for one in shifted]
        bag = (replace(one, companion=scan) for one, scan in zip(shifted, scans, strict=True))
        write_bag(list(bag), folder / f"bag{number:03d}")


def contents(out: Path) -> dict[str, bytes]:
    """Return the files below a folder that are the same in every run."""
    found = (path for path in out.rglob("*") if path.is_file() and path.name not in NOT_THE_SAME)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}
