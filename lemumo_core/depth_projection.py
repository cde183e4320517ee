"""Projection of LiDAR points to a sparse depth map, at the resolution of the view."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lemumo_core.geometry.camera import Camera


class Returns(NamedTuple):
    """The M LiDAR returns inside a camera's image, occluded ones included.

    u, v: float32 (M,) pixels. depth_m: float32 (M,) along the optical axis. row: intp (M,), which
    row of the scan each one is.
    """

    u: np.ndarray
    v: np.ndarray
    depth_m: np.ndarray
    row: np.ndarray


def project_returns(
    points: np.ndarray, T_camera_lidar: np.ndarray, camera: Camera, z_min_m: float
) -> Returns:
    """Project LiDAR returns through the full distortion model and keep those inside the image.

    Args:
        points: float32 (N, >=3) x, y, z in the LiDAR frame, metres; rows with a coordinate that
            is not finite are dropped, and so are exact zeros, which several drivers write where
            a beam did not return.
        T_camera_lidar: (4, 4).
        camera: model of the view.
        z_min_m: returns at this depth or nearer are dropped.
    """
    T = T_camera_lidar.astype(np.float32)
    x, y, z = (np.ascontiguousarray(points[:, i], np.float32) for i in range(3))
    with np.errstate(all="ignore"):
        # Depth first: it discards half of a spinning LiDAR's points before the other two rows.
        depth = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        ahead = np.flatnonzero((depth > z_min_m) & (depth < np.inf))
        x, y, z, depth = x[ahead], y[ahead], z[ahead], depth[ahead]
        u, v = camera.project_ahead(
            T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
            T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
            depth,
        )
        # Written so that NaN fails: those points lie outside the distortion's field of view.
        inside = (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    inside &= (x != 0) | (y != 0) | (z != 0)
    return Returns(u[inside], v[inside], depth[inside], ahead[inside])


def project_depth(
    points: np.ndarray, T_camera_lidar: np.ndarray, camera: Camera, z_min_m: float
) -> np.ndarray:
    """Render LiDAR returns into a camera: one pixel per return, the nearest wins.

    Nothing is averaged, splatted or filled. A return falls into the pixel whose centre is
    nearest to its projection. Arguments as in ``project_returns``; the camera sets the map's size.

    Returns:
        float32 (H, W) depth along the optical axis, metres, NaN where there is no return.
    """
    u, v, depth, _ = project_returns(points, T_camera_lidar, camera, z_min_m)
    column, row = (u + 0.5).astype(np.intp), (v + 0.5).astype(np.intp)
    nearest = np.full(camera.height * camera.width, np.inf, np.float32)
    np.minimum.at(nearest, row * camera.width + column, depth)
    nearest[nearest == np.inf] = np.nan
    return nearest.reshape(camera.height, camera.width)
