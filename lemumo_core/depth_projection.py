"""Projection of LiDAR points to a sparse depth map, at the resolution of the view, or beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lemumo_core.frame import Frame, LidarScan, is_return
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T

LEAST_SHARE = 0.02
"""Share of the returns that must come into view for a cause to be likely."""
OCCLUSION_RAD = np.float32(np.radians(0.5))
OCCLUSION_RATIO = 1.05
"""A LiDAR sees past the edges of what occludes things for the camera: the camera does not see a
return where another one, in the same square of this size, is nearer by more than this factor."""
T_OPTICAL_BODY = make_T(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))
"""REP-103: from body axes (x forward, z up) to optical ones (z forward, y down)."""


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
        depth = _coordinate(T[2], x, y, z)
        ahead = np.flatnonzero((depth > z_min_m) & (depth < np.inf))
        x, y, z, depth = (column.take(ahead) for column in (x, y, z, depth))
        right, down = (_coordinate(row, x, y, z) for row in T[:2])
        u, v = camera.project_ahead(right, down, depth)
        # Written so that NaN fails: those points lie outside the distortion's field of view.
        inside = (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    inside &= (x != 0) | (y != 0) | (z != 0)
    # By numbers: a mask of an unordered scan takes a column ten times as long.
    kept = np.flatnonzero(inside)
    return Returns(*(column.take(kept) for column in (u, v, depth, ahead)))


def _coordinate(row: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return one coordinate of transformed points, by a row (4,) of the transform."""
    found = row[0] * x
    found += row[1] * y
    found += row[2] * z
    found += row[3]
    return found


def visible(found: Returns, camera: Camera) -> Returns:
    """Return those of the returns in a camera's image that it sees too, see ``OCCLUSION_RATIO``."""
    side = max(np.float32(1.0), np.float32(camera.fx) * OCCLUSION_RAD)
    # From the principal point on: the squares are the same in a view of any size.
    row = np.floor((found.v - np.float32(camera.cy)) / side).astype(np.intp)
    column = np.floor((found.u - np.float32(camera.cx)) / side).astype(np.intp)
    row, column = row - row.min(initial=0), column - column.min(initial=0)
    cell = row * (column.max(initial=0) + 1) + column
    nearest = np.full(cell.max(initial=0) + 1, np.inf, np.float32)
    np.minimum.at(nearest, cell, found.depth_m)
    seen = found.depth_m <= np.float32(OCCLUSION_RATIO) * nearest[cell]
    return Returns(*(column[seen] for column in found))


class PixelReturns(NamedTuple):
    """For each of M returns, the nearest one in its pixel.

    pixel: intp (M,), row by row of the image. depth_m: float32 (M,). places: float32 (M, 2), how
    far right of the pixel's centre it lies, and how far below, in pixels; None unless asked for.
    """

    pixel: np.ndarray
    depth_m: np.ndarray
    places: np.ndarray | None = None


def nearest_returns(
    points: np.ndarray,
    T_camera_lidar: np.ndarray,
    camera: Camera,
    z_min_m: float,
    places: bool = False,
) -> PixelReturns:
    """Find the nearest LiDAR return of each pixel that has any.

    A return falls into the pixel whose centre is nearest to its projection.

    Args:
        points: as in ``project_returns``.
        T_camera_lidar: likewise.
        camera: likewise.
        z_min_m: likewise.
        places: whether only ``visible`` returns are taken, with their places. Of returns of equal
            depth in a pixel it is the one farthest to the left, then the highest.
    """
    found = project_returns(points, T_camera_lidar, camera, z_min_m)
    if places:
        found = visible(found, camera)
    pixel = (found.v + 0.5).astype(np.intp) * camera.width + (found.u + 0.5).astype(np.intp)
    nearest_m = _least(found.depth_m, pixel, camera).take(pixel)
    if not places:
        return PixelReturns(pixel, nearest_m)
    shown = np.flatnonzero(found.depth_m == nearest_m)
    within = np.empty((len(pixel), 2), np.float32)
    for i, at in enumerate((found.u, found.v)):
        offset = (at - np.floor(at + 0.5)).take(shown)
        within[:, i] = _least(offset, pixel.take(shown), camera).take(pixel)
    return PixelReturns(pixel, nearest_m, within)


def _least(values: np.ndarray, pixel: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the least value of each pixel (H W,); those without any hold anything."""
    least = np.empty(camera.height * camera.width, np.float32)
    least[pixel] = np.inf
    np.minimum.at(least, pixel, values)
    return least


def project_depth(
    points: np.ndarray, T_camera_lidar: np.ndarray, camera: Camera, z_min_m: float
) -> np.ndarray:
    """Render LiDAR returns into a camera: one pixel per return, the nearest wins.

    Nothing is averaged, splatted or filled. Arguments as in ``project_returns``; the camera sets
    the map's size.

    Returns:
        float32 (H, W) depth along the optical axis, metres, NaN where there is no return.
    """
    nearest = nearest_returns(points, T_camera_lidar, camera, z_min_m)
    depth_m = np.full((camera.height, camera.width), np.nan, np.float32)
    depth_m.reshape(-1)[nearest.pixel] = nearest.depth_m
    return depth_m


def explain_empty_view(frame: Frame) -> str:
    """Return the likely cause for which none of a LiDAR's returns is in the image.

    Args:
        frame: with a LiDAR scan.
    """
    scan = frame.companion
    assert isinstance(scan, LidarScan)
    count = int(is_return(scan.points).sum())
    if not count:
        return "the point cloud holds no return"
    T = scan.T_camera_lidar
    causes = {
        "the image's frame were x forward: is this the optical frame?": T_OPTICAL_BODY @ T,
        "the extrinsics were inverted: are they T_camera_lidar?": inverse(T),
        "the cloud were z forward: does it name a frame that is x forward?": (
            T @ inverse(T_OPTICAL_BODY)
        ),
    }
    in_view = {
        words: len(project_returns(scan.points, T_other, frame.camera, 0.1).row)
        for words, T_other in causes.items()
    }
    likely = max(in_view, key=lambda words: in_view[words])
    if in_view[likely] >= max(1, LEAST_SHARE * count):
        return f"{in_view[likely]} of {count} returns would be in view if {likely}"
    return f"all {count} returns are behind the camera or beside the image: check the extrinsics"
