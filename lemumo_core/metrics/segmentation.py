"""Semantic segmentation: intersection over union from one confusion matrix of all frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.frame import UNLABELLED


class SegmentationMetric:
    """Accumulates a confusion matrix over frames. Picklable; ranks and replays merge theirs.

    Args:
        classes: names by id.

    Attributes:
        confusion: int64 (C, C + 1), true class by predicted class; the last column counts
            labelled pixels for which nothing was predicted, which are wrong.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = tuple(classes)
        self.confusion = np.zeros((len(classes), len(classes) + 1), np.int64)

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Add one frame's label maps of one shape, integers.

        Args:
            predicted: class ids, 255 for none.
            true: class ids, 255 where unlabelled; such pixels do not count.

        Raises:
            ValueError: the shapes differ, or an id is none of the classes.
        """
        if predicted.shape != true.shape:
            raise ValueError(
                f"the predicted labels are {predicted.shape}, the true ones {true.shape}: bring "
                "them to one resolution by nearest neighbour"
            )
        count = len(self.classes)
        labelled = true != UNLABELLED
        row, column = true[labelled].astype(np.intp), predicted[labelled].astype(np.intp)
        column[column == UNLABELLED] = count
        for name, ids, limit in (("true", row, count - 1), ("predicted", column, count)):
            if ids.size and not 0 <= ids.min() <= ids.max() <= limit:
                raise ValueError(
                    f"{name} labels run from {ids.min()} to {ids.max()}; the {count} classes and "
                    f"{UNLABELLED} are known"
                )
        flat = np.bincount(row * (count + 1) + column, minlength=self.confusion.size)
        self.confusion += flat.reshape(self.confusion.shape)

    def merge(self, other: SegmentationMetric) -> None:
        """Add the frames of another metric.

        Raises:
            ValueError: its classes differ.
        """
        if other.classes != self.classes:
            raise ValueError(f"classes {other.classes} and {self.classes} do not merge")
        self.confusion = self.confusion + other.confusion

    def iou(self) -> dict[str, float]:
        """Return intersection over union by class, of classes that occur in the ground truth."""
        hits = np.diagonal(self.confusion)
        true, predicted = self.confusion.sum(axis=1), self.confusion[:, :-1].sum(axis=0)
        return {
            name: float(hits[i] / (true[i] + predicted[i] - hits[i]))
            for i, name in enumerate(self.classes)
            if true[i]
        }

    def miou(self) -> float:
        """Return the mean of ``iou``; NaN where nothing is labelled."""
        values = list(self.iou().values())
        return float(np.mean(values)) if values else float("nan")

    def constant_miou(self) -> float:
        """Return the ``miou`` of the most frequent class everywhere; NaN without any label."""
        true = self.confusion.sum(axis=1)
        return float(true.max() / true.sum() / (true > 0).sum()) if true.sum() else float("nan")
