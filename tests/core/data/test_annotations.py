"""Which annotated boxes an image shows."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T

T_OPTICAL_WORLD = make_T(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]]), np.array([0, 1.7, 0]))
"""World x ahead, y left, z up; the camera 1.7 m above the ground."""
CAMERAS = {
    "pinhole": Camera(1920, 1280, 2070.0, 2070.0, 958.0, 640.0),
    "waymo": Camera(1920, 1280, 2070, 2070, 958, 640, "plumb_bob", (0.05, -0.33, 0, 0, 0)),
    "fisheye": Camera(1280, 960, 420, 420, 640, 480, "equidistant", (0.02, -0.01, 0.0, 0.0)),
}


def boxes(*rows: tuple[float, ...]) -> Annotations:
    """Upright boxes of x, y, z, length, width, height, heading in the world."""
    values = np.array(rows, np.float64)
    half, zero = values[:, 6] / 2, np.zeros(len(values))
    return Annotations(
        poses=np.column_stack([values[:, :3], np.cos(half), zero, zero, np.sin(half)]),
        sizes=values[:, 3:6],
        names=tuple(f"box {i}" for i in range(len(values))),
        num_points=np.arange(len(values)),
    )


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_a_trailer_ahead_that_fills_the_image_is_kept(camera):
    # The back of a trailer, 12 m wide and high as in a tunnel mouth, seen from 2.5 m.
    trailer = (2.5 + 8, 0.3, 2.0, 16.0, 12.0, 9.0, 0.0)
    labels = visible_labels(boxes(trailer), T_OPTICAL_WORLD, camera)
    uv, valid = camera.project(box_corners(labels.boxes_3d.astype(np.float64))[0])
    inside = valid & (uv > -0.5).all(axis=1) & (uv < [camera.width, camera.height]).all(axis=1)
    if camera.model != "equidistant":
        assert not inside[:4].any() or not inside.all()
    assert labels.class_names == ("box 0",)
    x1, y1, x2, y2 = labels.boxes_2d[0]
    assert x2 - x1 > 0.5 * camera.width and y2 - y1 > 0.5 * camera.height


def test_a_lorry_across_whose_corners_are_all_outside_is_kept():
    camera = CAMERAS["pinhole"]
    lorry = (5.0, 0.0, 1.9, 14.0, 2.5, 3.8, np.pi / 2)
    labels = visible_labels(boxes(lorry), T_OPTICAL_WORLD, camera)
    uv, _ = camera.project(box_corners(labels.boxes_3d.astype(np.float64))[0])
    assert ((uv < 0) | (uv > [camera.width, camera.height])).any(axis=1).all()
    assert labels.boxes_2d.tolist() == [[0, 0, 1919, 1279]]


def test_a_truck_beside_whose_middle_is_behind_the_camera_is_kept():
    truck = (-2.0, 3.0, 1.8, 16.0, 2.5, 3.6, 0.0)
    labels = visible_labels(boxes(truck), T_OPTICAL_WORLD, CAMERAS["pinhole"])
    assert labels.boxes_3d[0, 2] < 0
    x1, y1, x2, y2 = labels.boxes_2d[0]
    assert x1 == 0 and 0 < x2 < 958 and y2 > y1


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_what_the_image_does_not_show_is_left_out(camera):
    car = (4.5, 1.8, 1.5, 0.0)
    behind, left, ahead = (-12, 0, 0.8, *car), (3, 80, 0.8, *car), (15, 1, 0.8, *car)
    labels = visible_labels(boxes(behind, left, ahead), T_OPTICAL_WORLD, camera)
    shown = ("box 1", "box 2") if camera.model == "equidistant" else ("box 2",)
    assert labels.class_names == shown
    assert labels.num_points.tolist() == [int(name[-1]) for name in shown]
