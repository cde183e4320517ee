"""2D detection by overlap, as COCO defines it (arXiv 1405.0312; cocodataset.org, "Evaluate")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.metrics.matching import (
    FALSE,
    IGNORED,
    TRUE,
    Accumulator,
    Counts,
    by_score,
    match,
    tally,
)
from lemumo_core.metrics.objects import share_ignored

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
"""Largest number of detections of a class in an image; those of lower scores are left out."""


class Detection2dMetric(Accumulator):
    """Accumulates average precision over frames at overlaps (IoU) from 0.5 to 0.95.

    Args:
        classes: names by id.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = tuple(classes)
        super().__init__((len(classes),), classes=self.classes)

    def add(
        self,
        boxes_2d: np.ndarray,
        scores: np.ndarray,
        class_ids: np.ndarray,
        truth_boxes_2d: np.ndarray,
        truth_class_ids: np.ndarray,
        counts: np.ndarray | None = None,
        regions: np.ndarray | None = None,
    ) -> None:
        """Add one image.

        Args:
            boxes_2d: (K, 4) x_min, y_min, x_max, y_max, pixels.
            scores: (K,).
            class_ids: (K,).
            truth_boxes_2d: (G, 4) in the same pixels.
            truth_class_ids: (G,), -1 for none of ``classes``.
            counts: bool (G,), which objects count; None for all. A detection of one that does not
                counts neither way.
            regions: (M, 4) in the same pixels, to ignore: a detection without an object counts
                neither way where a share of it as large as the overlap asked for lies in one.

        Raises:
            ValueError: detections whose shapes do not fit or that are not finite.
        """
        boxes, scores, class_ids = by_score(boxes_2d, scores, class_ids, 4)
        kept = _best_of_class(class_ids)
        boxes, scores, class_ids = boxes[kept], scores[kept], class_ids[kept]
        if counts is None:
            counts = np.ones(len(truth_class_ids), bool)
        iou = overlaps(boxes, np.asarray(truth_boxes_2d, np.float64))
        same = class_ids[:, None] == truth_class_ids
        outcomes = np.full((len(boxes), len(OVERLAPS)), FALSE, np.int8)
        if regions is not None:
            outcomes[share_ignored(boxes, regions)[:, None] >= OVERLAPS] = IGNORED
        for i, least in enumerate(OVERLAPS):
            of = match(-iou, same & (iou >= least), counts)
            found = of >= 0
            outcomes[found, i] = np.where(counts[of[found]], TRUE, IGNORED)
        self._rows.append((scores, class_ids, outcomes))
        self._count(truth_class_ids[counts])

    def ap(self) -> np.ndarray:
        """Return average precision, float64 (classes, overlaps); NaN for classes without objects.

        Raises:
            ValueError: no frame was added.
        """
        result = np.full((len(self._truths), len(OVERLAPS)), np.nan)
        _, class_ids, outcomes = self._best_first()
        for class_id in np.flatnonzero(self._truths):
            for i, ours in enumerate(outcomes[class_ids == class_id].T):
                hits = ours[ours != IGNORED] == TRUE
                result[class_id, i] = _average_precision(hits, self._truths[class_id])
        return result

    def counts(self, least_score: float) -> dict[str, Counts]:
        """Count what detections of at least a score find of each class, at an overlap of 0.5.

        Raises:
            ValueError: no frame was added.
        """
        scores, class_ids, outcomes = self._best_first()
        used = scores >= least_score
        return tally(self.classes, self._truths, class_ids[used], outcomes[used, 0])

    def ap50(self) -> float:
        """Return the mean AP at an overlap of 0.5 over classes with objects; NaN if none has."""
        return _mean(self.ap()[:, 0])

    def ap50_95(self) -> float:
        """Return the mean AP over all overlaps and classes with objects; NaN if none has."""
        return _mean(self.ap())


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the IoU (K, G) of boxes (K, 4) and (G, 4); 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b))
    union = area_a[:, None] + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _best_of_class(class_ids: np.ndarray) -> np.ndarray:
    """Return which detections, best first, are among the first of their class.

    The limit is ``MAX_DETECTIONS``.
    """
    kept = np.zeros(len(class_ids), bool)
    for class_id in np.unique(class_ids):
        kept[np.flatnonzero(class_ids == class_id)[:MAX_DETECTIONS]] = True
    return kept


def _average_precision(hits: np.ndarray, truths: int) -> float:
    """Compute COCO's AP of detections (N,), best first: the envelope at 101 recalls."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(found / truths, RECALLS)].mean())


def _mean(ap: np.ndarray) -> float:
    return float("nan") if np.isnan(ap).all() else float(np.nanmean(ap))
