"""3D detection by centre distance in bird's-eye view, as nuScenes defines it (arXiv 1903.11027)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lemumo_core.metrics.bands import BAND_EDGES_M, band_names, band_of, checked_edges
from lemumo_core.metrics.matching import (
    FALSE,
    IGNORED,
    TRUE,
    Accumulator,
    Counts,
    by_score,
    in_score_order,
    match,
    tally,
)
from lemumo_core.metrics.objects import ObjectFilter, Objects

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
ERRORS_AT = DISTANCES_M.index(2.0)
"""Errors are those of the matches within 2 m."""
MIN_RECALL, MIN_PRECISION = 0.1, 0.1
"""The noisy end of the curve, below either, does not count."""
RECALLS = np.linspace(0.0, 1.0, 101)
FIRST = round(100 * MIN_RECALL) + 1
GROUND = [0, 2]
"""Axes x and z of the camera optical frame span bird's-eye view."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class.

    Attributes:
        truths: number of objects that count.
        ap: average precision in [0, 1] at each of ``DISTANCES_M``.
        ate_m: mean distance of matched centres in bird's-eye view.
        ase: mean of 1 - IoU of matched boxes, laid on each other.
        aoe_rad: mean absolute difference of matched yaws.

    The errors are NaN where the recall does not pass 0.1, so that nothing was measured.
    """

    truths: int
    ap: tuple[float, ...]
    ate_m: float
    ase: float
    aoe_rad: float


@dataclass(frozen=True)
class DetectionScores:
    """Scores by class, of classes that have objects.

    A mean over no classes is NaN.
    """

    classes: dict[str, ClassScores]

    @property
    def map(self) -> float:
        """Mean over distances and classes of the average precision."""
        return _mean([float(np.mean(one.ap)) for one in self.classes.values()])

    @property
    def ate_m(self) -> float:
        """Mean over classes with matches, as are ``ase`` and ``aoe_rad``: NaN without any."""
        return _mean([one.ate_m for one in self.classes.values()])

    @property
    def ase(self) -> float:
        """See ``ate_m``."""
        return _mean([one.ase for one in self.classes.values()])

    @property
    def aoe_rad(self) -> float:
        """See ``ate_m``."""
        return _mean([one.aoe_rad for one in self.classes.values()])

    @property
    def nds(self) -> float:
        """Score of nuScenes (NDS) without velocity and attributes, which are not predicted.

        It is (5 mAP + sum of 1 - min(1, error)) / 8. As in nuScenes, a class without matches has
        errors of 1, so a detector that returns nothing scores 0.
        """
        errors = [(one.ate_m, one.ase, one.aoe_rad) for one in self.classes.values()]
        if not errors:
            return float("nan")
        mean = np.nan_to_num(np.array(errors), nan=1.0).mean(axis=0)
        return float((5.0 * self.map + (1.0 - np.minimum(mean, 1.0)).sum()) / 8.0)


class DetectionMetric(Accumulator):
    """Accumulates average precision and errors over frames.

    Detections are matched in order of their scores, each to the nearest free object of its class.
    One that finds only an object that does not count, or none while its own centre is out of
    range, counts neither way. A match lies in the band of its object's depth, a false positive in
    that of its own.

    Args:
        classes: names by id.
        counted: which objects count.
        band_edges_m: bands of depth.
    """

    def __init__(
        self,
        classes: Sequence[str],
        counted: ObjectFilter | None = None,
        band_edges_m: tuple[float, ...] = BAND_EDGES_M,
    ):
        self.classes, self.counted = tuple(classes), counted or ObjectFilter()
        self.band_edges_m = checked_edges(band_edges_m)
        shape = len(self.classes), len(self.band_edges_m)  # the last column: objects in no band
        super().__init__(shape, classes=self.classes, counted=self.counted, bands=self.band_edges_m)

    def add(
        self,
        boxes_3d: np.ndarray,
        scores: np.ndarray,
        class_ids: np.ndarray,
        truth: Objects,
        ignored: np.ndarray | None = None,
    ) -> None:
        """Add one image.

        Args:
            boxes_3d: (K, 7) as in ``geometry.boxes``, camera optical frame.
            scores: (K,). Do not cut at a threshold: precision at low scores counts too.
            class_ids: (K,) into ``classes``.
            truth: of the same image.
            ignored: bool (K,), detections in regions to ignore: false ones count neither way.

        Raises:
            ValueError: detections whose shapes do not fit or that are not finite.
        """
        ignored = in_score_order(ignored, scores)
        boxes, scores, class_ids = by_score(boxes_3d, scores, class_ids, 7)
        real = np.asarray(truth.boxes_3d, np.float64)
        counts = self.counted.counts(real[:, 2], truth.visibility, truth.num_points)
        offset = boxes[:, None, GROUND] - real[None][..., GROUND]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        same = class_ids[:, None] == truth.class_ids
        reachable = (boxes[:, 2] > 0) & (boxes[:, 2] <= self.counted.max_depth_m)
        outcomes = np.empty((len(boxes), len(DISTANCES_M)), np.int8)
        bands = np.empty((len(boxes), len(DISTANCES_M)), np.int8)
        errors = np.full((len(boxes), 3), np.nan)
        for i, limit in enumerate(DISTANCES_M):
            of = match(distance, same & (distance < limit), counts)
            found = of >= 0
            outcomes[:, i] = np.where(reachable & ~ignored, FALSE, IGNORED)
            outcomes[found, i] = np.where(counts[of[found]], TRUE, IGNORED)
            depth_m = boxes[:, 2].copy()
            depth_m[found] = real[of[found], 2]
            bands[:, i] = band_of(depth_m, self.band_edges_m)
            if i == ERRORS_AT:
                k, g = np.flatnonzero(found), of[found]
                errors[found] = np.stack(
                    [
                        distance[k, g],
                        _scale_error(boxes[k], real[g]),
                        _yaw_error(boxes[k], real[g]),
                    ],
                    axis=1,
                )
        self._rows.append((scores, class_ids, outcomes, bands, errors))
        self._count(truth.class_ids[counts], band_of(real[counts, 2], self.band_edges_m))

    def scores(self) -> DetectionScores:
        """Return the scores over all ranges.

        Raises:
            ValueError: no frame was added.
        """
        return self._scores(None)

    def scores_by_band(self) -> dict[str, DetectionScores]:
        """Return the scores of each band of depth, by its name.

        Raises:
            ValueError: no frame was added.
        """
        names = band_names(self.band_edges_m)
        return {name: self._scores(band) for band, name in enumerate(names)}

    def counts(
        self, least_score: float, from_m: float, to_m: float, distance_m: float = 2.0
    ) -> dict[str, Counts]:
        """Count what detections of at least a score find of each class.

        Args:
            least_score: threshold.
            from_m: edge of a band, from which on objects and false detections count.
            to_m: edge of another, up to which they do.
            distance_m: one of ``DISTANCES_M``, within which a detection finds an object.

        Raises:
            ValueError: one of the depths is no edge of a band, or no frame was added.
        """
        first, last = (self.band_edges_m.index(edge_m) for edge_m in (from_m, to_m))
        at = DISTANCES_M.index(distance_m)
        scores, class_ids, outcomes, bands, _ = self._best_first()
        used = (scores >= least_score) & (bands[:, at] >= first) & (bands[:, at] < last)
        objects = self._truths[:, first:last].sum(axis=1)
        return tally(self.classes, objects, class_ids[used], outcomes[used, at])

    def _scores(self, band: int | None) -> DetectionScores:
        truths = self._truths.sum(axis=1) if band is None else self._truths[:, band]
        scores, class_ids, outcomes, bands, errors = self._best_first()
        in_band = outcomes != IGNORED
        if band is not None:
            in_band &= bands == band
        result = {}
        for class_id, name in enumerate(self.classes):
            if not truths[class_id]:
                continue
            ours = np.flatnonzero(class_ids == class_id)
            curves = []
            for i in range(len(DISTANCES_M)):
                rows = ours[in_band[ours, i]]
                curves.append((rows, outcomes[rows, i] == TRUE))
            ap = tuple(_average_precision(hits, truths[class_id]) for _, hits in curves)
            rows, hits = curves[ERRORS_AT]
            means = _errors(scores[rows], hits, errors[rows], truths[class_id])
            result[name] = ClassScores(int(truths[class_id]), ap, *means)
        return DetectionScores(result)


def _average_precision(hits: np.ndarray, truths: int) -> float:
    """Compute nuScenes' AP of detections (N,), best first, given which are true positives."""
    if not hits.any():
        return 0.0
    found = np.cumsum(hits)
    precision = np.interp(RECALLS, found / truths, found / np.arange(1, len(hits) + 1), right=0.0)
    return float(np.maximum(precision[FIRST:] - MIN_PRECISION, 0).mean() / (1.0 - MIN_PRECISION))


def _errors(
    scores: np.ndarray, hits: np.ndarray, errors: np.ndarray, truths: int
) -> tuple[float, float, float]:
    """Compute nuScenes' errors: running means over matches, averaged over recalls from 0.1 up.

    They are NaN where the highest recall is below 0.1.

    Args:
        scores: (N,), best first.
        hits: bool (N,), which are true positives.
        errors: (N, 3) of translation, scale and yaw.
        truths: number of objects that count.
    """
    if not hits.any():
        return (np.nan, np.nan, np.nan)
    confidence = np.interp(RECALLS, np.cumsum(hits) / truths, scores, right=0.0)
    last = np.flatnonzero(confidence).max(initial=0)
    if last < FIRST:
        return (np.nan, np.nan, np.nan)
    matched, at = scores[hits][::-1], confidence[FIRST : last + 1]
    running = np.cumsum(errors[hits], axis=0) / np.arange(1, hits.sum() + 1)[:, None]
    ate_m, ase, aoe_rad = (np.interp(at, matched, column[::-1]).mean() for column in running.T)
    return float(ate_m), float(ase), float(aoe_rad)


def _scale_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return 1 - IoU of boxes (K, 7) as if of equal centre and yaw."""
    shared = np.minimum(a[:, 3:6], b[:, 3:6]).prod(axis=1)
    return 1.0 - shared / (a[:, 3:6].prod(axis=1) + b[:, 3:6].prod(axis=1) - shared)


def _yaw_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the absolute difference of yaw of boxes (K, 7), in [0, pi]."""
    return np.abs((a[:, 6] - b[:, 6] + np.pi) % (2 * np.pi) - np.pi)


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
