"""Pixels of one view of a camera looked up in another that differs by scale and crop."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from lemumo_core.geometry.camera import Camera

TIE_PX = 1e-6
"""Margin by which a point on the border of two pixels belongs to the right or lower one."""


def inside(uv: np.ndarray, camera: Camera) -> np.ndarray:
    """Return which pixels (N, 2) u, v lie in the image: bool (N,), False for NaN."""
    seen = (uv >= -0.5) & (uv < (camera.width - 0.5, camera.height - 0.5))
    return np.asarray(seen.all(axis=1))


def look_up(values: np.ndarray, view: Camera, camera: Camera, outside: float) -> np.ndarray:
    """Return the value of a map at every pixel of another view: that of the pixel it falls into.

    Args:
        values: (view.height, view.width, ...), any dtype.
        view: where the map lives.
        camera: where it is asked for; ``view`` is a scale and a crop of it, or the reverse.
        outside: value of the pixels that the view does not hold.

    Returns:
        (camera.height, camera.width, ...).
    """
    (rows, seen_rows), (columns, seen_columns) = _indices(view, camera)
    # Columns of few rows first: whole rows are then copied, not pixel by pixel.
    found = values.take(columns, axis=1).take(rows, axis=0)
    found[~seen_rows] = outside
    found[:, ~seen_columns] = outside
    return found


def move_boxes(boxes_2d: np.ndarray, view: Camera, camera: Camera) -> np.ndarray:
    """Move 2D boxes (K, 4) from pixels of one view to those of another; float64, not clipped."""
    scale = np.array([camera.fx / view.fx, camera.fy / view.fy])
    corners = (boxes_2d.reshape(-1, 2, 2) - (view.cx, view.cy)) * scale + (camera.cx, camera.cy)
    return corners.reshape(-1, 4)


def look_up_where(
    values: np.ndarray, view: Camera, camera: Camera, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Look up, as ``look_up``, some pixels only.

    Args:
        values: (view.height, view.width, ...), a map of the view.
        view: model of the map.
        camera: model whose pixels are asked for.
        wanted: bool (camera.height, camera.width).

    Returns:
        Values (M, ...) of the wanted pixels that the view contains, row by row, and which these
        are, bool as ``wanted``.
    """
    (rows, seen_rows), (columns, seen_columns) = _indices(view, camera)
    shown = wanted & seen_rows[:, None] & seen_columns
    # All, as in ``look_up``, and then some: the numbers of the wanted pixels would cost far more.
    return values.take(columns, axis=1).take(rows, axis=0)[shown], shown


def undistorted(camera: Camera) -> Camera:
    """Return the pinhole camera of the same size, focal lengths and principal point."""
    return replace(camera, model="pinhole", distortion=())


def look_up_undistorted(values: np.ndarray, camera: Camera, outside: float) -> np.ndarray:
    """Return the value of a map at every pixel of ``undistorted(camera)``, on the same ray.

    Depth along the optical axis stays what it is, as both cameras have the same axis.

    Args:
        values: (camera.height, camera.width, ...), any dtype.
        camera: where the map lives.
        outside: value of the pixels that the camera does not see.

    Returns:
        An array as ``values``, which it is where the camera has no distortion.
    """
    if camera.model == "pinhole":
        return values
    index, seen = _undistortion(camera)
    found = values.reshape(-1, *values.shape[2:])[index]
    found[~seen] = outside
    return found


@functools.lru_cache(maxsize=16)
def _undistortion(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel that each of ``undistorted(camera)`` falls into, and whether it has one.

    Returns:
        Index into the flattened image, intp (height, width), and bool (height, width).
    """
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = undistorted(camera).unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    uv, valid = camera.project(rays)
    seen = valid & inside(uv, camera)
    column, row = np.rint(np.where(seen[:, None], uv, 0)).astype(np.intp).T
    index = np.clip(row, 0, camera.height - 1) * camera.width + np.clip(column, 0, camera.width - 1)
    shape = camera.height, camera.width
    return index.reshape(shape), seen.reshape(shape)


Indices = tuple[np.ndarray, np.ndarray]


def _indices(view: Camera, camera: Camera) -> tuple[Indices, Indices]:
    return (
        _along(camera.height, camera.fy, camera.cy, view.height, view.fy, view.cy),
        _along(camera.width, camera.fx, camera.cx, view.width, view.fx, view.cx),
    )


def _along(
    length: int, f: float, c: float, view_length: int, view_f: float, view_c: float
) -> Indices:
    """Return the view's pixel of each pixel (length,) of one axis, and which of them it holds."""
    position = (np.arange(length) - c) * (view_f / f) + view_c
    index = np.floor(position + 0.5 + TIE_PX).astype(np.intp)
    seen = (index >= 0) & (index < view_length)
    return np.clip(index, 0, view_length - 1), seen
