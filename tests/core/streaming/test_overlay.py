"""What the overlay draws, pixel by pixel where it can be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.drawing import class_colors, depth_colors
from lemumo_core.frame import UNLABELLED, Detections, Frame, LidarScan, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.manifest import Manifest
from lemumo_core.preprocess import InputSpec, network_view
from lemumo_core.streaming.overlay import draw_overlay

SPEC = InputSpec(64, 96, "lidar", 2)
CAMERA = Camera(384, 256, 300, 300, 191.5, 127.5)
COLORS = ((255, 0, 0), (0, 0, 255))
MANIFEST = Manifest("m", "1", True, {}, SPEC, ("car", "truck"), ("road", "sky"), COLORS, {}, {}, {})


@pytest.fixture
def result() -> tuple[Frame, Perception]:
    scan = LidarScan(np.array([[-2.0, 0, 10.0]], np.float32), np.eye(4), 1)
    image = np.full((256, 384, 3), 100, np.uint8)
    box = np.array([[1.0, 0.5, 8.0, 2.0, 1.0, 1.0, 0.0]], np.float32)
    bounds = np.array([[180.0, 100, 300, 180]], np.float32)
    found = Detections(box, bounds, np.array([0.9], np.float32), np.array([1]))
    view = network_view(CAMERA, SPEC).scaled(24, 16)
    maps = np.full((16, 24), 20.0, np.float32), np.ones((16, 24), np.float32)
    labels = np.full((16, 24), UNLABELLED, np.uint8)
    perception = Perception(1, "c", found, *maps, labels, view, ("camera", "lidar"))
    return Frame(1, "c", CAMERA, image, scan), perception


def test_points_boxes_and_depth_are_drawn_where_they_belong(result) -> None:
    picture = draw_overlay(*result, MANIFEST)
    assert picture.shape == (512, 384, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[127, 131], depth_colors(np.array([10.0]))[0])
    # The front face's bottom left corner: x 0 to 2, y 1 m down, z 7.5 m.
    u, v = (round(x) for x in CAMERA.project(np.array([[1.0, 1.0, 7.5]]))[0][0])
    # A line of one pixel is smoothed.
    np.testing.assert_allclose(picture[v, u], class_colors(2)[1], atol=20)
    assert (picture[200, 20] == 100).all()  # unlabelled: the image shines through
    np.testing.assert_array_equal(picture[256 + 200, 200], depth_colors(np.array([20.0]))[0])


def test_labels_tint_the_image(result) -> None:
    frame, perception = result
    perception.labels[:] = 0
    picture = draw_overlay(frame, perception, MANIFEST)
    red, green, blue = picture[200, 20].tolist()
    assert red > 140 and green == blue < 80


def test_the_sky_has_no_depth(result) -> None:
    frame, perception = result
    perception.labels[:, 12:] = 1
    below = draw_overlay(frame, perception, MANIFEST)[256:]
    assert below[200, 100].any() and not below[200, 300].any()


def test_missing_parts_are_fine(result) -> None:
    frame, perception = result
    empty = Detections(*(np.zeros(s, np.float32) for s in ((0, 7), (0, 4), 0)), np.zeros(0, int))
    bare = replace(perception, detections=empty)
    picture = draw_overlay(replace(frame, image=None, companion=None), bare, MANIFEST)
    assert (picture[100:256] == 0).all()


def test_untrained_weights_are_said(result) -> None:
    trained = draw_overlay(*result, MANIFEST)
    untrained = draw_overlay(*result, replace(MANIFEST, trained=False))
    assert (trained[:30] != untrained[:30]).any()


@pytest.mark.parametrize(("width", "side_px"), [(1280, 2), (960, 2), (640, 1), (320, 1)])
def test_text_and_lines_are_smaller_on_small_images(result, width: int, side_px: int) -> None:
    frame, perception = result
    small = replace(frame, image=None, camera=CAMERA.scaled(width, width * 2 // 3))
    empty = Detections(*(np.zeros(s, np.float32) for s in ((0, 7), (0, 4), 0)), np.zeros(0, int))
    bare = replace(perception, detections=empty)
    picture = draw_overlay(small, bare, MANIFEST)[: width * 2 // 3]
    returns = (picture == depth_colors(np.array([10.0]))[0]).all(axis=2)
    assert returns.sum() == side_px**2
    rows, columns = np.nonzero((picture > 100).all(axis=2))  # the caption is white
    assert rows.max() <= max(24, 0.03 * width) and columns.max() < 0.7 * width
