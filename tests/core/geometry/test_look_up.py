"""Looking up a map of one view from another, against a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import inside, look_up, look_up_where
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


def test_inside_knows_the_borders() -> None:
    uv = np.array([[-0.5, -0.5], [123.4, 74.4], [123.5, 3], [3, -0.51], [np.nan, 3]])
    assert inside(uv, CAMERA).tolist() == [True, True, False, False, False]
