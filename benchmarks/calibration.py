"""Does the calibration check find turns that were made on purpose, and only those?

    python -m benchmarks.calibration --drives 12 --frames 16
    python -m benchmarks.calibration --kitti_raw /data/kitti/2011_09_26/drive

Each rendered drive has another rig. Its LiDAR is turned about each axis of the camera, or shifted,
and the check is made on all its frames; of KITTI also on every frame alone, every pair, and every
run of half of the frames. The table says how often each verdict was given, how far off the
estimated turn was at most, and how often its 95 % interval held the true one.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lemumo_core.frame import Frame
from lemumo_core.metrics.calibration import align
from lemumo_core.metrics.calibration_drift import Drift, correction_of, drift

AXES = "pitch", "yaw", "roll"
TURNS_DEG = (1.0, -1.0, 2.0, -2.0, 0.5, -0.2)
SHIFTS_M = (0.05, 0.1, 0.2)
HEAD = "case | n | off | aligned | undecided | largest error | truth in the interval"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drives", type=int, default=12)
    parser.add_argument("--frames", type=int, default=16, help="of each drive, half a second apart")
    parser.add_argument("--split", default="test")
    parser.add_argument("--kitti_raw", type=Path, help="a drive of KITTI, instead of rendered ones")
    args = parser.parse_args()
    print(f"| {HEAD} |\n|{' --- |' * 7}")
    if args.kitti_raw:
        from lemumo_core.data.sources.kitti_raw import KittiRaw

        source = KittiRaw(args.kitti_raw)
        drives = [[source[i] for i in range(len(source))]]
    else:
        drives = rendered(args.drives, args.frames, args.split)
    for name, turn_deg, shift_m in cases():
        found = []
        for frames in drives:
            alignments = list(filter(None, (align(moved(f, turn_deg, shift_m)) for f in frames)))
            whole = list(range(len(frames)))
            chosen = subsets(len(frames)) if args.kitti_raw else [whole]
            found += [drift([alignments[i] for i in some]) for some in chosen]
        print(row(name, np.array(turn_deg), found), flush=True)


def rendered(drives: int, frames: int, split: str) -> list[list[Frame]]:
    """Return the frames of some drives, without labels."""
    from lemumo_core.data.sources.synthetic import SyntheticStreet

    source = SyntheticStreet(frames=drives * frames, frames_per_drive=frames, split=split)
    made = (replace(source[i], labels=None) for i in range(len(source)))
    return [list(itertools.islice(made, frames)) for _ in range(drives)]


def cases() -> Iterator[tuple[str, Sequence[float], Sequence[float]]]:
    """Yield name, turn about x, y and z in degrees, and shift along x and y in metres."""
    yield "true", (0.0, 0.0, 0.0), (0.0, 0.0)
    for degrees, (axis, name) in itertools.product(TURNS_DEG, enumerate(AXES)):
        yield f"{name} {degrees:+g} degrees", (degrees * np.eye(3)[axis]).tolist(), (0.0, 0.0)
    for metres, (axis, name) in itertools.product(SHIFTS_M, enumerate(("right", "down"))):
        yield f"{metres:g} m to the {name}", (0.0, 0.0, 0.0), (metres * np.eye(2)[axis]).tolist()


def moved(frame: Frame, turn_deg: Sequence[float], shift_m: Sequence[float]) -> Frame:
    """Turn and shift the LiDAR of a frame."""
    scan = frame.companion
    T = correction_of(turn_deg, shift_m) @ scan.T_camera_lidar
    return replace(frame, companion=replace(scan, T_camera_lidar=T))


def subsets(count: int) -> list[list[int]]:
    """Return every frame alone, every pair, every half in a row, and all."""
    half = count // 2
    few = [list(some) for k in (1, 2) for some in itertools.combinations(range(count), k)]
    return [*few, *(list(range(i, i + half)) for i in range(count - half + 1)), list(range(count))]


def row(name: str, turn_deg: np.ndarray, found: Sequence[Drift]) -> str:
    """Return a row of the table."""
    verdicts = Counter(one.verdict for one in found)
    known = [one for one in found if one.angle_deg]
    errors = [float(np.linalg.norm(one.rotation_deg + turn_deg)) for one in known]
    size = float(np.linalg.norm(turn_deg))
    held = sum(low <= size <= high for low, high in (one.angle_interval_deg for one in known))
    cells = (
        *(name, len(found), verdicts["off"], verdicts["aligned"], verdicts["undecided"]),
        f"{max(errors, default=float('nan')):.2f} degrees",
        f"{held} of {len(known)}" if size else "-",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
