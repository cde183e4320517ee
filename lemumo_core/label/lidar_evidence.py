"""What LiDAR returns say of a box: they end in a solid object, and pass through an empty place."""

from __future__ import annotations

import numpy as np

from lemumo_core.frame import LidarScan, is_return
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.se3 import transform

CORE = 0.7
"""Share of a box's sides that rays must meet to count as passing through: its rim may be air."""
INSIDE = 1.1
"""Share of the sides within which a return counts as the object's: boxes are not that exact."""
BEHIND_M = 0.5
"""A ray that ends so far behind the core has passed through it."""


def lidar_evidence(boxes: np.ndarray, scan: LidarScan) -> tuple[np.ndarray, np.ndarray]:
    """Count the returns that end in boxes, and those whose rays pass through them.

    Args:
        boxes: float (K, 7) as in ``geometry.boxes``, camera optical frame.
        scan: of the same instant.

    Returns:
        int32 (K,) returns inside, and int32 (K,) rays that pass through the core of a box.
    """
    inside, through = np.zeros(len(boxes), np.int32), np.zeros(len(boxes), np.int32)
    if not len(boxes):
        return inside, through
    points = scan.points[is_return(scan.points), :3].astype(np.float64)
    ends = transform(scan.T_camera_lidar, points)
    origin = scan.T_camera_lidar[:3, 3]
    rays = ends - origin
    bearing = np.arctan2(rays[:, 0], rays[:, 2])
    order = np.argsort(bearing)
    bearing, ends, rays = bearing[order], ends[order], rays[order]
    for k, box in enumerate(np.asarray(boxes, np.float64)):
        chosen = _within(bearing, box, origin)
        if not len(chosen):
            continue
        R, half = box_rotation(box[6]), box[3:6] / 2
        end = (ends[chosen] - box[:3]) @ R
        inside[k] = (np.abs(end) <= INSIDE * half).all(axis=1).sum()
        through[k] = _pass_through((origin - box[:3]) @ R, rays[chosen] @ R, CORE * half).sum()
    return inside, through


def _within(bearing: np.ndarray, box: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the rows whose bearing, which rises, is one under which a box may be seen."""
    x, z = box[0] - origin[0], box[2] - origin[2]
    radius, distance = float(np.hypot(box[3], box[4])) / 2 * INSIDE, float(np.hypot(x, z))
    if distance <= radius:
        return np.arange(len(bearing))
    middle, reach = np.arctan2(x, z), np.arcsin(radius / distance)
    parts = [
        np.arange(*np.searchsorted(bearing, (middle - reach + turn, middle + reach + turn)))
        for turn in (-2 * np.pi, 0.0, 2 * np.pi)
    ]
    return np.concatenate(parts)


def _pass_through(origin: np.ndarray, rays: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return which rays leave a core behind them: bool (N,), in the axes of its box (slabs)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.stack([(-half - origin) / rays, (half - origin) / rays])
    enter = np.nanmax(sides.min(axis=0), axis=1)
    leave = np.nanmin(sides.max(axis=0), axis=1)
    length = np.linalg.norm(rays, axis=1)
    passed: np.ndarray = (enter < leave) & (enter > 0) & ((1 - leave) * length > BEHIND_M)
    return passed
