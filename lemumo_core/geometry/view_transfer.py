"""Pixels of one view of a camera looked up in another that differs by scale and crop."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from lemumo_core.geometry.camera import Camera

TIE_PX = 1e-6
"""Margin by which a point on the border of two pixels belongs to the right or lower one."""
ONE_SURFACE = 1.25
"""Depths of neighbouring pixels that differ by less than this factor are of one surface."""


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


@np.errstate(divide="ignore", invalid="ignore")  # a depth of 0 is of no surface that others are of
def look_up_depth(
    depth_m: np.ndarray, view: Camera, camera: Camera, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Look up depth at some pixels, between the pixels of the map.

    A row of the map spans metres of a far road. The inverse depth of a plane is linear in the
    image, so it is interpolated between the four pixels around, where these are of one surface
    (``ONE_SURFACE``). Where they are not, or one is unknown, the pixel that is asked for has the
    depth of the one it falls into: nothing is made up between an object and the wall behind it.

    Args:
        depth_m: float (view.height, view.width), metres along the optical axis, NaN unknown.
        view: model of the map.
        camera: model whose pixels are asked for.
        wanted: bool (camera.height, camera.width).

    Returns:
        float32 metres (M,) of the wanted pixels that the view contains, row by row, and which these
        are, bool as ``wanted``.
    """
    found, shown = look_up_where(depth_m, view, camera, wanted)
    rows, columns = _positions(view, camera)
    above, below, down = _around(rows, view.height)
    left, right, along = _around(columns, view.width)
    inverse = 1.0 / depth_m
    between = _blended(inverse.take(left, axis=1), inverse.take(right, axis=1), along)
    between = _blended(between.take(above, axis=0), between.take(below, axis=0), down[:, None])
    is_one = _of_one_surface(inverse).take(left, axis=1).take(above, axis=0)[shown]
    return np.where(is_one, 1.0 / between[shown], found), shown


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
    rows, columns = _positions(view, camera)
    return _containing(rows, view.height), _containing(columns, view.width)


def _positions(view: Camera, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return where the rows and the columns of a camera lie in a view, its pixels, float64."""
    rows = (np.arange(camera.height) - camera.cy) * (view.fy / camera.fy) + view.cy
    columns = (np.arange(camera.width) - camera.cx) * (view.fx / camera.fx) + view.cx
    return rows, columns


def _containing(position: np.ndarray, length: int) -> Indices:
    """Return the pixels that hold positions of one axis, and whether the axis has them."""
    index = np.floor(position + 0.5 + TIE_PX).astype(np.intp)
    seen = (index >= 0) & (index < length)
    return np.clip(index, 0, length - 1), seen


def _blended(before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the values a share of the way from ``before`` to ``after``, which is overwritten."""
    after -= before
    after *= share
    after += before
    return after


def _of_one_surface(inverse_depth: np.ndarray) -> np.ndarray:
    """Return whether each pixel and those to its right and below are of one surface, bool."""
    rows, columns = inverse_depth.shape
    padded = np.pad(inverse_depth, ((0, 1), (0, 1)), "edge")
    corners = [padded[i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    is_one: np.ndarray = np.maximum.reduce(corners) < ONE_SURFACE * np.minimum.reduce(corners)
    return is_one


def _around(position: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels before and after positions of one axis, and how far between they are."""
    position = np.clip(position, 0, length - 1)
    before = position.astype(np.intp)
    return before, np.minimum(before + 1, length - 1), (position - before).astype(np.float32)
