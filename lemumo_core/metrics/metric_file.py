"""``PerceptionMetric`` files, so that interrupted work goes on: plain arrays, never pickle."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lemumo_core.metrics.perception import PerceptionMetric

COUNTS = ("frames", "frames_with_boxes", "frames_with_2d_boxes")
DETECTIONS = ("detection", "detection_by_class", "paper_xy", "detection_2d")


def save_metrics(path: Path, metrics: Mapping[str, PerceptionMetric]) -> None:
    """Write metrics by name as .npz."""
    arrays = {}
    for name, metric in metrics.items():
        arrays[f"{name}/counts"] = np.array([getattr(metric, count) for count in COUNTS])
        unknown = sorted(metric.unknown_classes.items())
        arrays[f"{name}/unknown/names"] = np.array([word for word, _ in unknown], np.str_)
        arrays[f"{name}/unknown/counts"] = np.array([count for _, count in unknown], np.int64)
        arrays[f"{name}/depth"] = metric.depth.sums
        for baseline, depth in metric.baselines.items():
            arrays[f"{name}/baselines/{baseline}"] = depth.sums
        arrays[f"{name}/segmentation"] = metric.segmentation.confusion
        for part in DETECTIONS:
            for key, array in getattr(metric, part).state().items():
                arrays[f"{name}/{part}/{key}"] = array
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_metrics(path: Path, empty: PerceptionMetric) -> dict[str, PerceptionMetric]:
    """Read the metrics that ``save_metrics`` wrote, by name.

    Args:
        path: of the file.
        empty: a metric with the settings of those that were written; it is not changed.

    Raises:
        OSError, ValueError, KeyError: the file is not readable, or of other settings.
    """
    states: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            metric, _, key = name.partition("/")
            states.setdefault(metric, {})[key] = stored[name]
    return {name: _restored(empty, state) for name, state in states.items()}


def _restored(empty: PerceptionMetric, state: dict[str, np.ndarray]) -> PerceptionMetric:
    metric = copy.deepcopy(empty)
    if state["segmentation"].shape != metric.segmentation.confusion.shape:
        raise ValueError("these are metrics of other classes")
    for count, value in zip(COUNTS, state["counts"].tolist(), strict=True):
        setattr(metric, count, value)
    unknown = state["unknown/names"].tolist(), state["unknown/counts"].tolist()
    metric.unknown_classes = Counter(dict(zip(*unknown, strict=True)))
    metric.depth.sums, metric.segmentation.confusion = state["depth"], state["segmentation"]
    stored = {key: one for key, one in metric.baselines.items() if f"baselines/{key}" in state}
    metric.baselines = stored
    for baseline, depth in stored.items():
        depth.sums = state[f"baselines/{baseline}"]
    for part in DETECTIONS:
        keys = [key for key in state if key.startswith(f"{part}/")]
        getattr(metric, part).restore({key.removeprefix(f"{part}/"): state[key] for key in keys})
    return metric
