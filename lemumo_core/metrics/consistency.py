"""Differences between two results: of one frame with other sensors, or of consecutive frames.

Needs no labels. Between modalities it is disagreement, between consecutive frames flicker (to which
the motion of the camera adds its share, the same for every model on the same drive).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.frame import UNLABELLED, Perception
from lemumo_core.metrics.detection import GROUND
from lemumo_core.metrics.matching import match


@dataclass(frozen=True)
class Difference:
    """Shares from 0 (equal) to 1; NaN where there is nothing to compare.

    Attributes:
        detections: of all 3D detections, those without a counterpart of their class in the other
            result.
        labels: of the pixels that both label, those labelled differently.
        depth: median of |a - b| / min(a, b) over pixels, at most 1.
    """

    detections: float
    labels: float
    depth: float


def difference(one: Perception, other: Perception, within_m: float) -> Difference:
    """Compare two results of one camera model.

    Args:
        one: detections above a score threshold, depth and labels.
        other: likewise.
        within_m: farthest that the centres of a pair may lie apart in bird's-eye view.
    """
    a, b = one.detections, other.detections
    count = len(a.scores) + len(b.scores)
    missing = float("nan")
    if count and len(a.boxes_3d) == len(a.scores) and len(b.boxes_3d) == len(b.scores):
        offset = a.boxes_3d[:, None, GROUND] - b.boxes_3d[None][..., GROUND]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        allowed = (distance < within_m) & (a.class_ids[:, None] == b.class_ids)
        pairs = (match(distance, allowed, np.ones(len(b.scores), bool)) >= 0).sum()
        missing = 1.0 - 2.0 * float(pairs) / count
    labelled = (one.labels != UNLABELLED) & (other.labels != UNLABELLED)
    labels = (one.labels != other.labels)[labelled]
    known = np.isfinite(one.depth_m) & np.isfinite(other.depth_m)
    near, far = np.sort(np.stack([one.depth_m[known], other.depth_m[known]]), axis=0)
    depth = np.minimum(far - near, near) / np.maximum(near, 1e-6)
    return Difference(
        missing,
        float(labels.mean()) if labels.size else float("nan"),
        float(np.median(depth)) if depth.size else float("nan"),
    )


def above(perception: Perception, score: float) -> Perception:
    """Return the result without the detections below a score, and without tracks."""
    found = perception.detections
    keep = found.scores >= score
    kept = {name: column[keep] if len(column) else column for name, column in vars(found).items()}
    return replace(perception, detections=replace(found, **kept), tracks=None)
