"""Detections of one object, of which the best stays."""

from __future__ import annotations

import numpy as np

OVERLAP = 0.5


def distinct(boxes: np.ndarray, scores: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Which detections to keep: none stands in the place of a better one of its kind.

    Solid objects do not overlap. The heatmap of a large, near object has several peaks, and of two
    classes that look alike both may find it. One that is better hides another if their centres are
    closer than half of what two boxes side by side need, along its length and across it, in
    bird's-eye view (greedy suppression as in CenterPoint, arXiv 2006.11275, by boxes in place of
    circles).

    Args:
        boxes: (K, 7) as in ``geometry.boxes``.
        scores: (K,).
        kinds: (K,), as integers (``Taxonomy.kind_ids``).

    Returns:
        bool (K,).
    """
    x, z, length, width, yaw = boxes[:, (0, 2, 3, 4, 6)].T.astype(np.float64)
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    right, ahead = x - x[:, None], z - z[:, None]
    along, across = np.abs(right * c - ahead * s), np.abs(right * s + ahead * c)
    hides = along < OVERLAP * (length[:, None] + length) / 2
    hides &= across < OVERLAP * (width[:, None] + width) / 2
    hides &= kinds[:, None] == kinds
    hidden, keep = np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    for k in np.argsort(-scores, kind="stable").tolist():
        if not hidden[k]:
            keep[k] = True
            hidden |= hides[k]
    return keep
