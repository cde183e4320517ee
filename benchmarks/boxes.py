"""Objects that a model finds, and boxes where there is none, by threshold and by sensors.

    python -m benchmarks.boxes                              40 rendered frames
    python -m benchmarks.boxes --data kitti root=/data/kitti
    python -m benchmarks.boxes --model out/package --data nuscenes root=/data/nuscenes

An object counts if it is of a class that the model knows, within ``REACH_M`` and hit by at least
``LEAST_RETURNS`` returns. It is found if a box of any class lies within ``RADIUS_M`` of its centre
in bird's-eye view. A box within ``REACH_M`` is false if no object of these classes, counted or
not, lies so near: one on anything else is false, in regions to ignore too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._source import add_source_arguments, named_source
from benchmarks.rigs import RIGS, SAME_OBJECTS
from lemumo_core.frame import Detections, Frame, Labels
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.progress import track
from lemumo_core.taxonomy import Taxonomy

REACH_M, RADIUS_M, LEAST_RETURNS = 50.0, 2.0, 5
THRESHOLDS = (0.1, 0.2, 0.23, 0.25, 0.3, 0.4)


class Count(NamedTuple):
    """Objects that were found, objects that count, and false boxes."""

    found: int
    objects: int
    false: int


def count(detections: Detections, labels: Labels, classes: Taxonomy, threshold: float) -> Count:
    """Count what the boxes of one image, of scores from a threshold on, find.

    Each box finds the nearest object that no better one has found.

    Args:
        detections: best score first.
        labels: of the same image, with boxes.
        classes: of the model.
        threshold: least score.
    """
    assert labels.boxes_3d is not None
    known = classes.detection_ids(labels.class_names) >= 0
    centers_m = labels.boxes_3d[known][:, (0, 2)]
    counts = np.hypot(*centers_m.T) <= REACH_M
    if labels.num_points is not None:
        returns = labels.num_points[known]
        counts &= (returns >= LEAST_RETURNS) | (returns < 0)  # -1 where it is not known
    left, false = set(range(len(centers_m))), 0
    for center_m in detections.boxes_3d[detections.scores >= threshold][:, (0, 2)]:
        away_m = np.hypot(*(centers_m - center_m).T)
        near = [i for i in np.argsort(away_m) if away_m[i] <= RADIUS_M]
        if free := [i for i in near if i in left]:
            left.remove(free[0])
        false += not near and float(np.hypot(*center_m)) <= REACH_M
    found = sum(bool(counts[i]) for i in range(len(counts)) if i not in left)
    return Count(found, int(counts.sum()), false)


def seen_by(frame: Frame) -> Iterator[tuple[str, Frame]]:
    """Yield the frame as both sensors see it, and as each alone does."""
    yield "camera + LiDAR", frame
    yield "LiDAR", replace(frame, image=None)
    yield "camera", replace(frame, companion=None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/lemumo-tiny"))
    parser.add_argument("--rig", choices=SAME_OBJECTS, default="as it is", help="change frames")
    add_source_arguments(parser)
    args = parser.parse_args()
    source, package = named_source(args.data, args.options), load_package(args.model)
    pipeline = Pipeline(package, "auto", min(THRESHOLDS))
    counts: dict[str, dict[float, list[Count]]] = {}
    for frame in track(source, "frames"):
        if frame.labels is None or frame.labels.boxes_3d is None:
            continue
        for sensors, seen in seen_by(RIGS[args.rig](frame)):
            detections = pipeline(seen).detections
            for threshold in THRESHOLDS:
                one = count(detections, frame.labels, package.manifest.classes, threshold)
                counts.setdefault(sensors, {}).setdefault(threshold, []).append(one)
    print(f"\n| sensors | {' | '.join(f'score {one:g}' for one in THRESHOLDS)} |")
    print(f"| --- |{' ---: |' * len(THRESHOLDS)}")
    for sensors, by_threshold in counts.items():
        cells = []
        for each in by_threshold.values():
            found, objects, false = (sum(column) for column in zip(*each, strict=True))
            cells.append(f"{found} of {objects}, {false / len(each):.1f}")
        print(f"| {sensors} | {' | '.join(cells)} |")
    print("\nobjects found of those that count, and false boxes an image")


if __name__ == "__main__":
    main()
