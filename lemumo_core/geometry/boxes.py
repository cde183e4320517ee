"""3D boxes in the camera optical frame (x right, y down, z forward).

A box is (x, y, z, length, width, height, yaw): its centre, its size, and its rotation about the
camera's y axis, as KITTI's rotation_y: at yaw 0 the length points along +x, and in general along
(cos yaw, 0, -sin yaw).
"""

from __future__ import annotations

import numpy as np

from lemumo_core.geometry.camera import Camera

_SIGNS = np.array(
    [[x, y, z] for x in (0.5, -0.5) for y in (0.5, -0.5) for z in (-0.5, 0.5)], np.float64
)
EDGES = (
    (0, 1),
    (2, 3),
    (4, 5),
    (6, 7),
    (0, 2),
    (1, 3),
    (4, 6),
    (5, 7),
    (0, 4),
    (1, 5),
    (2, 6),
    (3, 7),
)
"""Corner index pairs of the twelve edges."""

NEAR_M = 0.1
"""Boxes are cut at this depth before they are projected."""


def box_rotation(yaw: np.ndarray) -> np.ndarray:
    """Axes of boxes: yaw (K,) to (K, 3, 3) whose columns are the length (forward), width (left)
    and height (up) directions in the camera frame, so R maps REP-103 body axes to the camera's.
    """
    yaw = np.asarray(yaw, np.float64)
    c, s, o = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    rows = [[c, s, o], [o, o, o - 1], [-s, c, o]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def box_corners(boxes: np.ndarray) -> np.ndarray:
    """Corners of boxes (K, 7) as (K, 8, 3): front left bottom/top, front right, rear left, rear
    right, each bottom first."""
    local = boxes[:, None, 3:6] * _SIGNS
    return local @ np.swapaxes(box_rotation(boxes[:, 6]), 1, 2) + boxes[:, None, :3]


def points_in_box(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Which points (N, 3) lie inside one box (7,): bool (N,)."""
    local = (points - box[:3]) @ box_rotation(box[6])
    return (np.abs(local) <= box[3:6] / 2).all(axis=1)


def image_bounds(boxes: np.ndarray, camera: Camera) -> np.ndarray:
    """Bounds of projected boxes, clipped to the image.

    Edges are cut at ``NEAR_M`` so a box that reaches behind the camera keeps its visible part.

    Args:
        boxes: (K, 7).
        camera: model of the image.

    Returns:
        float32 (K, 4) x_min, y_min, x_max, y_max, pixels; zeros for a box that is not visible.
    """
    bounds = np.zeros((len(boxes), 4), np.float32)
    limits = np.array([camera.width - 1, camera.height - 1], np.float64)
    for i, corners in enumerate(box_corners(np.asarray(boxes, np.float64))):
        segments = clip_edges(corners)
        uv, valid = camera.project(segments.reshape(-1, 3))
        if valid.any():
            low, high = uv[valid].min(axis=0), uv[valid].max(axis=0)
            if (high >= 0).all() and (low <= limits).all():
                bounds[i] = [*np.clip(low, 0, limits), *np.clip(high, 0, limits)]
    return bounds


def clip_edges(corners: np.ndarray) -> np.ndarray:
    """Visible parts of a box's edges: corners (8, 3) to segments (E, 2, 3), z >= ``NEAR_M``."""
    segments = []
    for a, b in EDGES:
        p, q = corners[a], corners[b]
        if p[2] < NEAR_M and q[2] < NEAR_M:
            continue
        if p[2] < NEAR_M or q[2] < NEAR_M:
            cut = p + (q - p) * (NEAR_M - p[2]) / (q[2] - p[2])
            p, q = (cut, q) if p[2] < NEAR_M else (p, cut)
        segments.append((p, q))
    return np.array(segments).reshape(-1, 2, 3)
