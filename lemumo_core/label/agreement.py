"""Label maps over time: of a pixel's class only what the frames before and after see too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.geometry.view_transfer import inside

SAME_DEPTH = 0.1
"""A pixel shows the same surface as another frame's if its depth there is within such a share."""


@dataclass(frozen=True, eq=False)
class SeenMap:
    """The maps of one frame.

    Attributes:
        labels: uint8 (h, w), 255 = unlabelled.
        depth_m: float (h, w), NaN = unknown.
        camera: model of the (h, w) view.
        T_fixed_camera: as in ``Frame``.
    """

    labels: np.ndarray
    depth_m: np.ndarray
    camera: Camera
    T_fixed_camera: np.ndarray


def agreeing_labels(one: SeenMap, others: list[SeenMap]) -> np.ndarray:
    """Return the labels of a frame, unlabelled where another frame calls the surface otherwise.

    Each pixel is placed in space by its depth and sought in the others; where they do not show it,
    because it is out of view or hidden, or has moved, they say nothing.

    Args:
        one: the frame.
        others: of the same fixed frame, taken shortly before and after.

    Returns:
        uint8 (h, w).
    """
    labels = one.labels.copy()
    known = np.flatnonzero(np.isfinite(one.depth_m) & (one.depth_m > 0) & (labels != UNLABELLED))
    width = labels.shape[1]
    uv = np.stack([known % width, known // width], axis=1).astype(np.float64)
    points = one.camera.unproject(uv) * one.depth_m.ravel()[known, None]
    for other in others:
        T = inverse(other.T_fixed_camera) @ one.T_fixed_camera
        moved = transform(T, points)
        seen_at, valid = other.camera.project(moved)
        rows = np.flatnonzero(valid & inside(seen_at, other.camera))
        column, row = (seen_at[rows] + 0.5).astype(np.intp).T
        depth_m, found = moved[rows, 2], other.labels[row, column]
        same = np.abs(other.depth_m[row, column] - depth_m) <= SAME_DEPTH * depth_m  # not if NaN
        same &= (found != UNLABELLED) & (found != one.labels.ravel()[known[rows]])
        labels.ravel()[known[rows[same]]] = UNLABELLED
    return labels
