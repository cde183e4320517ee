"""Returns that a nearer surface may hide from the camera, since the LiDAR looks from elsewhere."""

from __future__ import annotations

import numpy as np

from lemumo_core.depth_projection import Returns
from lemumo_core.frame import LidarScan, is_return
from lemumo_core.metrics.beams import upright_axes

JUMP = 1.5
"""A return may be hidden by what is nearer by this factor. Less would take a ray that grazes the
road for one that meets it."""
NEAREST_M, FARTHEST_M = 1.0, 30.0
"""Depths at which surfaces are looked for. Parallax is large near by."""
STEP = 1.06
"""Factor from one depth to the next."""
COLUMN_DEG = 0.5
"""Width of a column of beams."""
REACH_DEG = 1.5
"""How far a surface may extend beyond the last return from it."""
MOVED_DEG = 0.1
"""A smaller parallax hides nothing: the beam that returned passed there."""


def may_be_hidden(found: Returns, scan: LidarScan) -> np.ndarray:
    """Return which returns in a camera's image a nearer surface may hide from it.

    A LiDAR above the camera looks over a car's roof at the trees behind it, while the camera sees
    the roof. No beam met the roof, so no nearer return lies where these trees are projected, and
    ``depth_projection.visible`` takes them for seen. Here the camera's ray to a return is followed
    outwards, and a surface may be there where, from the LiDAR's place, the next return above or
    below in the same column of beams is no farther than the point on the ray, but hardly nearer.

    Args:
        found: M returns of the scan in the image.
        scan: in full.

    Returns:
        bool (M,).
    """
    T = scan.T_camera_lidar.astype(np.float32)
    to_axes = upright_axes(scan).astype(np.float32)
    points = np.ascontiguousarray(scan.points[is_return(scan.points), :3], np.float32)
    points = points[points @ T[2, :3] + T[2, 3] > 0]
    points = points[np.linalg.norm(points, axis=1) < JUMP * FARTHEST_M]
    column, elevation, range_m = _polar(points @ to_axes.T)
    order = np.argsort(column + elevation)
    key, range_m = (column + elevation)[order], range_m[order]
    hidden = np.zeros(len(found.row), bool)
    if not len(key):
        return hidden
    seen = np.ascontiguousarray(scan.points[found.row, :3], np.float32)
    towards = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    # The ray to a return in the LiDAR's frame: place = origin + depth * direction.
    origin = -T[:3, :3].T @ T[:3, 3]
    direction = (seen - origin) / found.depth_m[:, None]
    z = NEAREST_M
    while z < FARTHEST_M:
        rows = np.flatnonzero(~hidden & (found.depth_m > JUMP * z))
        at = origin + z * direction[rows]
        column, elevation, at_m = _polar(at @ to_axes.T)
        moved = np.linalg.norm(at / at_m[:, None] - towards[rows], axis=1) > np.radians(MOVED_DEG)
        place = np.searchsorted(key, column + elevation)
        for beside in (place - 1, place):
            beside = beside.clip(0, len(key) - 1)
            is_near = np.abs(key[beside] - column - elevation) < REACH_DEG
            is_met = (range_m[beside] < at_m) & (range_m[beside] * STEP**1.5 > at_m)
            hidden[rows[moved & is_near & is_met]] = True
        z *= STEP
    return hidden


def _polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return column, elevation and range of points (N, 3) in ``upright_axes``, each (N,).

    Columns are far apart on the scale of elevations, which are degrees: their sum sorts by both.
    """
    x, y, z = points.T
    column = np.floor(np.degrees(np.arctan2(y, x)) / COLUMN_DEG).astype(np.float64) * 1000.0
    flat = np.hypot(x, y)
    return column, np.degrees(np.arctan2(z, flat)), np.hypot(flat, z)
