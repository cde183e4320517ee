"""Measure what a thermal camera adds by day, dusk and night, beside answers without a network.

    python -m benchmarks.thermal                            60 rendered frames, one of a drive
    python -m benchmarks.thermal --model out/package --frames 100

Depth stands beside the mean of each row over other rendered streets, labels beside the most
frequent class. Boxes in the image are those of the boxes in space; an object counts if at least
``LEAST_VISIBLE`` of it is in view and it is at least ``LEAST_HEIGHT`` of the image's height high.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.evaluation.modalities import (
    MODALITIES,
    SCORE_THRESHOLD,
    metric_for,
    with_modality,
)
from lemumo_core.frame import Detections, Frame
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.depth import DepthMetric
from lemumo_core.metrics.detection_2d import Detection2dMetric
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.progress import track
from lemumo_core.taxonomy import Taxonomy
from lemumo_core.world.weather import Weather

LEAST_VISIBLE, LEAST_HEIGHT = 0.3, 0.04
ROWS = 96
PRIOR_FRAMES = 48


class Scores(NamedTuple):
    """Metrics of the frames of one kind of light, of one modality."""

    all: PerceptionMetric
    boxes_2d: Detection2dMetric


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/lemumo-tiny-thermal"))
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    package = load_package(args.model)
    classes = package.manifest.classes
    pipeline = Pipeline(package, "auto", SCORE_THRESHOLD)
    rows_m = mean_rows(streets("train", PRIOR_FRAMES))
    scores: dict[tuple[str, str], Scores] = {}
    trivial: dict[str, DepthMetric] = {}
    source = streets("test", args.frames)
    for index in track(range(len(source)), "frames"):
        frame, light = source[index], light_of(source.weather(index))
        assert frame.labels is not None and frame.labels.depth_m is not None
        true_m = frame.labels.depth_m
        row = np.nonzero(true_m > 0)[0] * ROWS // len(true_m)
        trivial.setdefault(light, DepthMetric()).add(rows_m[row], true_m[true_m > 0])
        for modality in MODALITIES:
            seen = with_modality(frame, modality)
            assert seen is not None
            one = scores.setdefault(
                (light, modality),
                Scores(metric_for(package.manifest), Detection2dMetric(classes.detection_classes)),
            )
            perception = pipeline(seen)
            one.all.add(frame, perception)
            add_boxes(one.boxes_2d, perception.detections, frame, classes)
    head = "light | sensors | frames | BEV mAP | AP50 | depth, m | rows' mean | mIoU | constant"
    print(f"\n| {head} |")
    print(f"| --- | --- |{' ---: |' * 7}")
    for (light, modality), one in sorted(scores.items()):
        found = one.all.result()
        cells = (
            *(found["frames"], f"{found['bev_map']:.3f}", f"{one.boxes_2d.ap50():.3f}"),
            *(f"{found['depth_mae_m']:.2f}", f"{trivial[light].scores().mae_m:.2f}"),
            *(f"{found['miou']:.3f}", f"{found['segmentation']['constant_miou']:.3f}"),
        )
        name = modality.replace("_", " ").replace("companion", "thermal")
        print(f"| {light} | {name} | {' | '.join(map(str, cells))} |")


def streets(split: str, frames: int) -> SyntheticStreet:
    """Open rendered streets with a thermal camera, each frame of its own drive."""
    return SyntheticStreet(
        *(3, frames, 704, 384), split=split, companion="thermal", frames_per_drive=1
    )


def mean_rows(source: SyntheticStreet) -> np.ndarray:
    """Return the mean depth (``ROWS``,) of rows of the image, metres, NaN in the sky alone."""
    sums = np.zeros((2, ROWS))
    for index in track(range(len(source)), "rows"):
        frame = source[index]
        assert frame.labels is not None and frame.labels.depth_m is not None
        true_m = frame.labels.depth_m
        row, column = np.nonzero((true_m > 0) & (true_m < 80))
        at = row * ROWS // len(true_m)
        sums += [np.bincount(at, true_m[row, column], ROWS), np.bincount(at, minlength=ROWS)]
    return (sums[0] / np.maximum(sums[1], 1)).astype(np.float32)


def light_of(weather: Weather) -> str:
    """Return ``day``, ``dusk``, with lamps on but warm ground, or ``night``."""
    if not weather.night:
        return "day"
    return "night" if weather.ambient_k < 0 else "dusk"


def add_boxes(
    metric: Detection2dMetric, found: Detections, frame: Frame, classes: Taxonomy
) -> None:
    """Add the boxes in the image of one frame."""
    labels = frame.labels
    assert labels is not None and labels.boxes_2d is not None and labels.visibility is not None
    ids = classes.detection_ids(labels.class_names)
    high = labels.boxes_2d[:, 3] - labels.boxes_2d[:, 1] >= LEAST_HEIGHT * frame.camera.height
    metric.add(
        *(found.boxes_2d, found.scores, found.class_ids, labels.boxes_2d[ids >= 0], ids[ids >= 0]),
        counts=(high & (labels.visibility >= LEAST_VISIBLE))[ids >= 0],
    )


if __name__ == "__main__":
    main()
