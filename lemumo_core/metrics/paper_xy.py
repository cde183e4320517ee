"""The paper's "mAP XY" (arXiv 2603.24327, as its code computes it), to compare with its tables.

Not a measure of 3D detection: the distance is taken in the camera's x and y, so a box that is far
too deep still counts as found. Report it beside ``metrics.detection``, never instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.metrics.detection import DISTANCES_M
from lemumo_core.metrics.matching import Accumulator, by_score, in_score_order
from lemumo_core.metrics.objects import Objects

MIN_SCORE = 0.1


class PaperXyMetric(Accumulator):
    """Accumulates average precision by distance in the image plane's axes, metres.

    Each detection with a score above 0.1 looks at the nearest object of its class alone: it is a
    true positive if that one is nearer than the limit and not taken by a better score. No object is
    filtered by visibility, returns or range. Where the paper's code takes X and Y by a camera
    model that it fits to the ground truth, boxes here come with the true one.

    Args:
        classes: names by id.
    """

    def __init__(self, classes: Sequence[str]):
        super().__init__((len(classes),), classes=tuple(classes))

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
            boxes_3d: as for ``DetectionMetric.add``.
            scores: likewise.
            class_ids: likewise.
            truth: likewise, but only objects whose centre the image shows.
            ignored: likewise.

        Raises:
            ValueError: detections whose shapes do not fit or that are not finite.
        """
        ignored = in_score_order(ignored, scores)
        boxes, scores, class_ids = by_score(boxes_3d, scores, class_ids, 7)
        kept = scores > MIN_SCORE
        boxes, scores, class_ids = boxes[kept], scores[kept], class_ids[kept]
        offset = boxes[:, None, :2] - np.asarray(truth.boxes_3d, np.float64)[None, :, :2]
        same = class_ids[:, None] == truth.class_ids
        distance = np.where(same, np.hypot(offset[..., 0], offset[..., 1]), np.inf)
        hits = np.zeros((len(boxes), len(DISTANCES_M)), bool)
        if distance.size:
            nearest = distance.argmin(axis=1)
            for i, limit in enumerate(DISTANCES_M):
                close = np.flatnonzero(distance.min(axis=1) < limit)
                _, first = np.unique(nearest[close], return_index=True)
                hits[close[first], i] = True
        evaluated = hits.any(axis=1) | ~ignored[kept]
        self._rows.append((scores[evaluated], class_ids[evaluated], hits[evaluated]))
        self._count(truth.class_ids)

    def map(self) -> float:
        """Return the mean over classes and distances of the area under the precision envelope.

        Classes without objects are left out; NaN if none has any.

        Raises:
            ValueError: no frame was added.
        """
        _, class_ids, hits = self._best_first()
        values = []
        for class_id in np.flatnonzero(self._truths):
            ours = hits[class_ids == class_id]
            values.append(np.mean([_area(column, self._truths[class_id]) for column in ours.T]))
        return float(np.mean(values)) if values else float("nan")


def _area(hits: np.ndarray, truths: int) -> float:
    """Compute the area under the precision envelope of detections (N,), best first."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * hits).sum() / truths)
