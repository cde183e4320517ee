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
FACE_POINTS = 33


def box_rotation(yaw: np.ndarray) -> np.ndarray:
    """Return the axes of boxes of yaw (K,): rotations (K, 3, 3).

    The columns are the length (forward), width (left) and height (up) directions in the camera
    frame, so R maps REP-103 body axes to the camera's.
    """
    yaw = np.asarray(yaw, np.float64)
    rotation = np.zeros((*yaw.shape, 3, 3))
    rotation[..., 0, 0] = rotation[..., 2, 1] = np.cos(yaw)
    rotation[..., 0, 1] = np.sin(yaw)
    rotation[..., 2, 0] = -rotation[..., 0, 1]
    rotation[..., 1, 2] = -1.0
    return rotation


def box_corners(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of boxes (K, 7) as (K, 8, 3).

    Their order is front left bottom and top, front right, rear left, rear right, each bottom first.
    """
    local = boxes[:, None, 3:6] * _SIGNS
    return local @ np.swapaxes(box_rotation(boxes[:, 6]), 1, 2) + boxes[:, None, :3]


def points_in_box(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return which points (N, 3) lie inside one box (7,): bool (N,)."""
    local = (points - box[:3]) @ box_rotation(box[6])
    return (np.abs(local) <= box[3:6] / 2).all(axis=1)


def count_points(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Count the points (N, 3) inside each of boxes (K, 7): int32 (K,)."""
    counts = np.zeros(len(boxes), np.int32)
    if not len(boxes):
        return counts
    reach = boxes[:, 3:6].sum(axis=1)  # no corner is that far
    near = np.ones(len(points), bool)
    for axis in (0, 2):
        near &= points[:, axis] > (boxes[:, axis] - reach).min()
        near &= points[:, axis] < (boxes[:, axis] + reach).max()
    points = points[near]
    x, z = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 2])
    for i, box in enumerate(boxes):
        near = (np.abs(x - box[0]) < reach[i]) & (np.abs(z - box[2]) < reach[i])
        counts[i] = points_in_box(points[near], box).sum()
    return counts


def image_bounds(boxes: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the bounds of projected boxes, clipped to the image.

    Edges are cut at ``NEAR_M`` so a box that reaches behind the camera keeps its visible part.

    Args:
        boxes: (K, 7).
        camera: model of the image.

    Returns:
        float32 (K, 4) x_min, y_min, x_max, y_max, pixels; zeros for a box that is not visible.
    """
    limits = np.array([camera.width - 1, camera.height - 1], np.float64)
    boxes = np.asarray(boxes, np.float64)
    segments, ahead = _clip(box_corners(boxes))
    uv, valid = camera.project(segments.reshape(-1, 3))
    uv = uv.reshape(-1, 2 * len(EDGES), 2)
    seen = (valid & ahead.ravel().repeat(2)).reshape(-1, 2 * len(EDGES), 1)
    low = np.where(seen, uv, np.inf).min(axis=1)
    high = np.where(seen, uv, -np.inf).max(axis=1)
    # Beyond the lens's field of view nothing projects: there faces are seen without their edges.
    lost = np.flatnonzero((ahead.repeat(2, axis=1) & ~seen[..., 0]).any(axis=1))
    if len(lost):
        uv, valid = camera.project(_surface(boxes[lost]).reshape(-1, 3), NEAR_M)
        uv, seen = uv.reshape(len(lost), -1, 2), valid.reshape(len(lost), -1, 1)
        low[lost] = np.minimum(low[lost], np.where(seen, uv, np.inf).min(axis=1))
        high[lost] = np.maximum(high[lost], np.where(seen, uv, -np.inf).max(axis=1))
    shown = (high >= 0).all(axis=1) & (low <= limits).all(axis=1)
    bounds = np.clip(np.hstack([low, high]), 0, np.tile(limits, 2))
    return np.where(shown[:, None], bounds, 0).astype(np.float32)


def _surface(boxes: np.ndarray) -> np.ndarray:
    """Points on the faces of boxes (K, 7), ``FACE_POINTS`` along each edge: (K, N, 3)."""
    steps = np.linspace(-0.5, 0.5, FACE_POINTS)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    local = boxes[:, None, 3:6] * grid[(np.abs(grid) == 0.5).any(axis=1)]
    return local @ np.swapaxes(box_rotation(boxes[:, 6]), 1, 2) + boxes[:, None, :3]


def clip_edges(corners: np.ndarray) -> np.ndarray:
    """Clip a box's edges to z >= ``NEAR_M``: corners (8, 3) to segments (E, 2, 3)."""
    segments, ahead = _clip(corners[None])
    return segments[ahead]


def _clip(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip the edges of boxes with corners (K, 8, 3) to z >= ``NEAR_M``: (K, 12, 2, 3).

    Also returns which edges have such a part, (K, 12); the others' segments mean nothing.
    """
    segments = corners[:, np.array(EDGES)]
    p, q = segments[..., 0, :], segments[..., 1, :]
    near = segments[..., 2] < NEAR_M
    with np.errstate(all="ignore"):  # edges that do not cross the plane divide by zero
        cut = p + (q - p) * (NEAR_M - p[..., 2:]) / (q[..., 2:] - p[..., 2:])
    crossing = near[..., 0] != near[..., 1]
    segments = np.where((near & crossing[..., None])[..., None], cut[..., None, :], segments)
    return segments, ~(near[..., 0] & near[..., 1])
