"""Looking up a map of one view from another, against a loop over pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import (
    inside,
    look_up,
    look_up_depth,
    look_up_undistorted,
    look_up_where,
    undistorted,
)
from lemumo_core.preprocess import InputSpec, network_view

CAMERA = Camera(124, 75, 90.0, 91.0, 60.3, 37.7)


@pytest.mark.parametrize(("height", "width"), [(32, 96), (80, 96), (64, 64)])
def test_every_pixel_takes_the_value_of_the_cell_it_falls_into(height, width) -> None:
    """A view that is cut at the top, and one that is padded there."""
    view = network_view(CAMERA, InputSpec(height, width, "lidar", 2))
    view = view.scaled(width // 4, height // 4)
    values = np.random.default_rng(0).uniform(size=(view.height, view.width, 3))
    found = look_up(values, view, CAMERA, -1.0)
    wanted = np.random.default_rng(1).random((CAMERA.height, CAMERA.width)) < 0.3
    some, held = look_up_where(values, view, CAMERA, wanted)
    np.testing.assert_array_equal(held, wanted & (found[..., 0] >= 0))
    np.testing.assert_array_equal(some, found[held])
    for v in range(CAMERA.height):
        for u in range(CAMERA.width):
            x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
            column = int(np.floor(x * view.fx + view.cx + 0.5 + 1e-9))
            row = int(np.floor(y * view.fy + view.cy + 0.5 + 1e-9))
            expected = values[row, column] if row >= 0 else -1.0
            assert (found[v, u] == expected).all()


def test_a_pixel_on_a_border_belongs_to_the_lower_right_cell() -> None:
    """Five pixels to two cells: the third one's centre is on the border."""
    camera = Camera(35, 5, 30.0, 30.0, 17.1, 2.2)
    view = camera.scaled(14, 2)
    columns = look_up(np.tile(np.arange(14), (2, 1)), view, camera, -1)[0]
    expected = [2 * (u // 5) + (u % 5 >= 2) for u in range(35)]
    assert columns.tolist() == expected


SMALL = network_view(CAMERA, InputSpec(32, 48, "lidar", 2))
EVERYWHERE = np.ones((CAMERA.height, CAMERA.width), bool)


def _plane_m(camera: Camera) -> np.ndarray:
    """Depth of the pixels of a slanted wall."""
    v, u = np.mgrid[: camera.height, : camera.width]
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    return (1.0 / (0.08 + 0.03 * x + 0.05 * y)).astype(np.float32)


def test_depth_of_a_plane_is_exact_between_the_cells() -> None:
    """But for half a cell at the rim, beyond which there is nothing to go by."""
    wanted = np.random.default_rng(2).random(EVERYWHERE.shape) < 0.4
    found, shown = look_up_depth(_plane_m(SMALL), SMALL, CAMERA, wanted)
    expected_m = np.where(wanted, _plane_m(CAMERA), np.nan)
    depth_m = np.full(EVERYWHERE.shape, np.nan, np.float32)
    depth_m[shown] = found
    inner = slice(3, -3), slice(3, -3)
    np.testing.assert_allclose(depth_m[inner], expected_m[inner], rtol=1e-5)
    by_cell = look_up(_plane_m(SMALL), SMALL, CAMERA, np.nan)
    assert np.nanmax(np.abs(by_cell - expected_m)[inner]) > 0.1


def test_depth_is_never_between_an_object_and_what_is_behind_it() -> None:
    depth_m = np.full((SMALL.height, SMALL.width), 30.0, np.float32)
    depth_m[8:20, 10:25] = 12.0
    found, shown = look_up_depth(depth_m, SMALL, CAMERA, EVERYWHERE)
    np.testing.assert_allclose(found, look_up(depth_m, SMALL, CAMERA, np.nan)[shown], rtol=1e-6)


def test_unknown_depth_does_not_spread() -> None:
    depth_m = _plane_m(SMALL)
    depth_m[12, 20] = np.nan
    found, shown = look_up_depth(depth_m, SMALL, CAMERA, EVERYWHERE)
    by_cell = look_up(depth_m, SMALL, CAMERA, np.nan)[shown]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(by_cell))


@pytest.mark.filterwarnings("error")
def test_depth_of_zero_does_not_spread_either() -> None:
    """A network that is not trained yet says so of whole objects."""
    depth_m = np.full((4, 8), 3.0, np.float32)
    depth_m[1:3, 2:4] = 0.0
    view = Camera(8, 4, 5.0, 5.0, 3.5, 1.5)
    found, _ = look_up_depth(depth_m, view, view.scaled(16, 8), np.ones((8, 16), bool))
    np.testing.assert_array_equal(found.reshape(8, 16), depth_m.repeat(2, 0).repeat(2, 1))


def test_inside_knows_the_borders() -> None:
    uv = np.array([[-0.5, -0.5], [123.4, 74.4], [123.5, 3], [3, -0.51], [np.nan, 3]])
    assert inside(uv, CAMERA).tolist() == [True, True, False, False, False]


LENSES = [
    Camera(96, 64, 60.0, 62.0, 46.3, 33.1, "plumb_bob", (-0.28, 0.07, 0.002, -0.001)),
    Camera(96, 64, 40.0, 40.0, 48.0, 31.0, "equidistant", (0.02, -0.004, 0.001, 0.0)),
]


@pytest.mark.parametrize("camera", LENSES, ids=lambda camera: camera.model)
def test_an_undistorted_map_is_that_of_opencv(camera) -> None:
    K, D, size = camera.K, np.array(camera.distortion), (camera.width, camera.height)
    if camera.model == "equidistant":
        maps = cv2.fisheye.initUndistortRectifyMap(K, D, np.eye(3), K, size, cv2.CV_32FC1)
    else:
        maps = cv2.initUndistortRectifyMap(K, D, np.eye(3), K, size, cv2.CV_32FC1)
    values = np.random.default_rng(0).uniform(1, 9, (camera.height, camera.width, 2))
    found = look_up_undistorted(values, camera, np.nan)
    column, row = (np.rint(one).astype(int) for one in maps)
    held = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    border = np.abs(np.stack(maps) % 1 - 0.5).min(axis=0) < 1e-3
    assert held.mean() > 0.7 and (np.isfinite(found[..., 0]) == held)[~border].all()
    np.testing.assert_array_equal(
        found[held & ~border], values[row[held & ~border], column[held & ~border]]
    )


def test_points_of_undistorted_depth_are_where_they_were_seen() -> None:
    """A consumer that knows no distortion, as depth_image_proc, gets a tilted wall."""
    camera = LENSES[0]
    rays = camera.unproject(np.stack(np.mgrid[:64, :96][::-1], axis=-1).reshape(-1, 2))
    normal, offset_m = np.array([0.3, -0.2, 1.0]), 8.0
    depth_m = (offset_m / (rays @ normal)).reshape(64, 96)

    def off_wall(view: Camera, depth: np.ndarray) -> float:
        v, u = np.mgrid[:64, :96]
        points = np.stack([(u - view.cx) / view.fx, (v - view.cy) / view.fy, 1 + 0 * u], axis=-1)
        return float(np.nanmax(np.abs((points * depth[..., None]) @ normal - offset_m)))

    pinhole = undistorted(camera)
    assert off_wall(pinhole, look_up_undistorted(depth_m, camera, np.nan)) < 0.1  # half a pixel
    assert off_wall(pinhole, depth_m) > 0.4  # as it was published before
    straight = Camera(96, 64, 60.0, 62.0, 46.3, 33.1)
    assert look_up_undistorted(depth_m, straight, np.nan) is depth_m
