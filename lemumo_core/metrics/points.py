"""Segmentation of LiDAR points: intersection over union by class and by range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lemumo_core.metrics.bands import band_names, band_of, checked_edges
from lemumo_core.metrics.segmentation import SegmentationMetric

RANGE_EDGES_M = (0.0, 10.0, 20.0, 40.0, 80.0)
"""Bands of horizontal distance from the sensor begin and end at these."""


class PointMetric:
    """Accumulates confusion matrices over sweeps. Picklable; ranks merge theirs.

    Args:
        classes: names by id.
        edges_m: of the bands of range.
    """

    def __init__(self, classes: Sequence[str], edges_m: tuple[float, ...] = RANGE_EDGES_M):
        self.edges_m = checked_edges(edges_m)
        self.all = SegmentationMetric(classes)
        self.bands = [SegmentationMetric(classes) for _ in self.edges_m[1:]]

    def add(self, predicted: np.ndarray, true: np.ndarray, range_m: np.ndarray) -> None:
        """Add one sweep.

        Args:
            predicted: int (N,), class ids, 255 for none.
            true: int (N,), class ids, 255 = unlabelled; such points do not count.
            range_m: float (N,), horizontal distance.
        """
        self.all.add(predicted, true)
        band = band_of(range_m, self.edges_m)
        for number, metric in enumerate(self.bands):
            metric.add(predicted[band == number], true[band == number])

    def merge(self, other: PointMetric) -> None:
        """Add the sweeps of another metric."""
        self.all.merge(other.all)
        for mine, theirs in zip(self.bands, other.bands, strict=True):
            mine.merge(theirs)

    @property
    def points(self) -> int:
        """Number of labelled points."""
        return int(self.all.confusion.sum())

    def result(self) -> dict[str, Any]:
        """Return ``miou`` and ``iou`` by class, both by range too, and ``points``.

        Beside them stand those of the ``constant`` answer: the most frequent class everywhere.
        """
        true = self.all.confusion.sum(axis=1)
        constant = int(true.argmax())
        bands = {
            name: metric
            for name, metric in zip(band_names(self.edges_m), self.bands, strict=True)
            if metric.confusion.sum()
        }
        by_constant = {name: _with_constant(metric, constant) for name, metric in bands.items()}
        return {
            "miou": self.all.miou(),
            "constant_miou": self.all.constant_miou(),
            "iou": self.all.iou(),
            "miou_by_range": {name: metric.miou() for name, metric in bands.items()},
            "iou_by_range": {name: metric.iou() for name, metric in bands.items()},
            "constant_class": self.all.classes[constant],
            "constant_iou": _with_constant(self.all, constant).iou(),
            "constant_miou_by_range": {name: one.miou() for name, one in by_constant.items()},
            "points": self.points,
        }


def _with_constant(metric: SegmentationMetric, constant: int) -> SegmentationMetric:
    """Return the metric of one class, by its id, for all points of another metric."""
    same = SegmentationMetric(metric.classes)
    same.confusion[:, constant] = metric.confusion.sum(axis=1)
    return same


def horizontal_range(points: np.ndarray) -> np.ndarray:
    """Return the horizontal distance (N,) of points (N, >= 2) from the sensor, metres."""
    return np.hypot(points[:, 0], points[:, 1])
