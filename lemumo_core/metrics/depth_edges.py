"""Where depth jumps in a LiDAR scan, as points on the outlines of near objects.

Neighbours are looked for among the beams as the LiDAR sent them, not in the image: seen from the
camera, a near object hides part of what the LiDAR saw beside it, or leaves a gap there, and edges
found in the image would be off by that parallax.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform
from lemumo_core.metrics.beams import upright_axes

Z_MIN_M = 1.0
CELL_DEG = 0.2
REACH = 4
"""Cells within which a return has its neighbours: 0.8 degree."""
JUMP_RATIO, JUMP_M = 0.08, 0.3
"""How much farther than the surface a neighbour lies behind an edge, both."""
LOOKS_ALONG = 0.99
"""Cosine from which the camera looks along the axis that the beams turn about."""
FLAT_RUN_DEG = 0.03
"""Returns nearer to each other than this give no slope."""
MAX_WEIGHT = 0.3


class DepthEdges(NamedTuple):
    """N points at which a near surface ends and a farther one begins.

    uv: float64 (N, 2) pixels. depth_m: float64 (N,) of the near surface, along the optical axis.
    weight: float64 (N,), the relative jump, up to ``MAX_WEIGHT``. upright: bool (N,), whether the
    edge does not lie flat in the image: it was crossed along a row of beams, or, where the camera
    lies on its side, along a column.
    """

    uv: np.ndarray
    depth_m: np.ndarray
    weight: np.ndarray
    upright: np.ndarray


def depth_edges(scan: LidarScan, camera: Camera) -> DepthEdges:
    """Find where depth jumps along rows of beams, to either side, and along columns, upwards.

    Below an object lies ground at its own depth, so jumps downwards are no edges. An edge lies
    half way between the last beam that met the near surface and the first one past it, at the
    range of the former. Inverse range is linear on planes, so the surface is continued by its
    slope: the ground is no edge, however flat the beam.
    """
    seen = project_returns(scan.points, scan.T_camera_lidar, camera, Z_MIN_M)
    to_axes = _sensor_axes(scan)
    xyz = scan.points[seen.row, :3].astype(np.float64) @ to_axes.T
    range_m = np.linalg.norm(xyz, axis=1)
    angle = np.rad2deg(
        np.stack([np.arctan2(xyz[:, 1], xyz[:, 0]), np.arcsin(xyz[:, 2] / range_m)], axis=1)
    )
    grid = _nearest_by_cell(angle, range_m)
    up_in_image = np.abs(scan.T_camera_lidar[:2, :3] @ to_axes[2])
    is_level = up_in_image[1] >= up_in_image[0]
    found = []
    for axis, lines in ((0, (grid, grid[:, ::-1])), (1, (grid.T,))):
        for line in lines:
            near, far, ratio = _jumps(line, angle[:, axis], 1.0 / range_m)
            middle = np.deg2rad((angle[near] + angle[far]) / 2)
            flat = np.cos(middle[:, 1])
            ray = np.stack(
                [flat * np.cos(middle[:, 0]), flat * np.sin(middle[:, 0]), np.sin(middle[:, 1])],
                axis=1,
            )
            points = ray * range_m[near][:, None]
            in_camera = transform(scan.T_camera_lidar, points @ to_axes)
            uv, valid = camera.project(in_camera, Z_MIN_M)
            with np.errstate(invalid="ignore"):
                valid &= ((uv >= 0) & (uv <= [camera.width - 1, camera.height - 1])).all(axis=1)
            weight = np.minimum(ratio, MAX_WEIGHT)
            upright = np.full(len(uv), (axis == 0) == is_level)
            found.append((uv[valid], in_camera[valid, 2], weight[valid], upright[valid]))
    return DepthEdges(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _sensor_axes(scan: LidarScan) -> np.ndarray:
    """Return the rotation (3, 3) from the LiDAR's axes to x ahead of the camera, z upwards."""
    R, up = scan.T_camera_lidar[:3, :3], upright_axes(scan)[2]
    forward = R[2] if abs(R[2] @ up) < LOOKS_ALONG else -R[1]
    ahead = forward - (forward @ up) * up
    ahead /= np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(up, ahead), up])


def _nearest_by_cell(angle: np.ndarray, range_m: np.ndarray) -> np.ndarray:
    """Return a grid (rows upwards, columns to the left) of the nearest return a cell, or -1."""
    if not len(angle):
        return np.full((1, 1), -1)
    cell = ((angle - angle.min(axis=0)) // CELL_DEG).astype(np.intp)
    columns, rows = cell.max(axis=0) + 1
    nearest = np.full(rows * columns, -1)
    last_wins = np.argsort(-range_m, kind="stable")
    nearest[(cell[:, 1] * columns + cell[:, 0])[last_wins]] = last_wins
    return nearest.reshape(rows, columns)


def _jumps(
    line: np.ndarray, angle: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find jumps to the right in rows (R, C) of returns.

    Args:
        line: number of the return in each cell, or -1.
        angle: (N,) degrees of each return along the rows.
        inverse: (N,) inverse range of each return.

    Returns:
        The returns before and behind each jump, and how much farther the latter is, relatively.
    """
    before, after = _next(line[:, ::-1])[:, ::-1], _next(line)
    whole = (line >= 0) & (before >= 0) & (after >= 0)
    a, b, p = line[whole], after[whole], before[whole]
    run = angle[a] - angle[p]
    steep = np.abs(run) >= FLAT_RUN_DEG
    slope = np.where(steep, inverse[a] - inverse[p], 0.0) / np.where(steep, run, 1.0)
    surface = np.clip(inverse[a] + slope * (angle[b] - angle[a]), 1e-4, inverse[a])
    ratio = surface / inverse[b] - 1.0
    jumps = (ratio > JUMP_RATIO) & (1.0 / inverse[b] - 1.0 / surface > JUMP_M)
    return a[jumps], b[jumps], ratio[jumps]


def _next(line: np.ndarray) -> np.ndarray:
    """Return, for each cell of rows (R, C), the value of the nearest filled one to its right.

    It is -1 where none is within ``REACH``.
    """
    found = np.full_like(line, -1)
    for step in range(min(REACH, line.shape[1] - 1), 0, -1):
        shifted = line[:, step:]
        found[:, :-step] = np.where(shifted >= 0, shifted, found[:, :-step])
    return found
