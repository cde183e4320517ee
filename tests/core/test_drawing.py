"""What is drawn, pixel by pixel where it can be known, and pages that hold it."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest

from lemumo_core import drawing
from lemumo_core.frame import UNLABELLED, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.web_page import facts, figure, page, table

CAMERA = Camera(384, 256, 300, 300, 191.5, 127.5)
RED = (255, 0, 0)


def test_depth_and_errors_have_colors_that_order_them() -> None:
    red, green, blue = drawing.depth_colors(np.array([2.0, 30.0, 79.0])).astype(int)
    assert red[0] > red[2] and blue[2] > blue[0] and green[1] == max(green)
    small, large, beyond = drawing.error_colors(np.array([0.0, 5.0, 50.0])).astype(int)
    assert small[2] > small[1] and large[0] > large[2] and (large == beyond).all()
    for colors in (drawing.depth_colors, drawing.error_colors):
        assert (colors(np.array([[np.nan]])) == 0).all()
        assert colors(np.empty((0, 4))).shape == (0, 4, 3)


def test_labels_tint_only_where_there_are_any() -> None:
    picture = np.full((2, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1], [UNLABELLED, 1]], np.uint8)
    drawing.blend_labels(picture, labels, [RED, (0, 0, 255)], weight=0.5)
    assert picture[0, 0].tolist() == [178, 50, 50] and picture[1, 1].tolist() == [50, 50, 178]
    assert (picture[1, 0] == 100).all()


def test_near_returns_cover_far_ones() -> None:
    points = np.array([[0, 0, 40], [0, 0, 10], [0, 0, -5], [np.nan, 0, 9]], np.float32)
    picture = np.zeros((256, 384, 3), np.uint8)
    drawing.draw_returns(picture, LidarScan(points, np.eye(4), 0), CAMERA)
    color = drawing.depth_colors(np.array([10.0]))[0]
    assert (picture[127:129, 191:193] == color).all() and (picture != 0).any(-1).sum() == 4
    drawing.draw_returns(picture, LidarScan(points[2:], np.eye(4), 0), CAMERA)  # none in view


def test_boxes_are_drawn_at_their_corners() -> None:
    picture = np.zeros((256, 384, 3), np.uint8)
    box = np.array([[1.0, 0.5, 8.0, 2.0, 1.0, 1.0, 0.0]], np.float32)
    drawing.draw_boxes(picture, box, CAMERA, [RED])
    for corner in ([0.0, 1.0, 7.5], [2.0, 0.0, 8.5]):
        u, v = CAMERA.project(np.array([corner]))[0][0].round().astype(int)
        assert picture[v, u].tolist() == [255, 0, 0]
    assert not picture[:, :190].any()


@pytest.mark.parametrize(("x", "z"), [(0.0, 40.0), (-20.0, 60.0), (12.0, 10.0)])
def test_birds_eye_puts_things_where_they_are(x, z) -> None:
    """800 pixels to 80 m: ten a metre, the camera in the middle of the lower border."""
    picture = drawing.birds_eye(CAMERA, None, 800)
    assert picture.shape == (800, 600, 3)
    before = picture.copy()
    drawing.draw_footprints(picture, np.array([[x, 0, z, 4, 2, 2, np.pi / 2]]), [RED])
    rows, columns = np.nonzero((picture != before).any(-1))
    # Heading -z, towards the camera: 4 m along z, 2 m along x.
    assert [rows.min(), rows.max()] == pytest.approx([800 - 10 * z - 20, 800 - 10 * z + 20], abs=2)
    assert [columns.min(), columns.max()] == pytest.approx([290 + 10 * x, 310 + 10 * x], abs=2)
    below, above = (picture[800 - round(10 * z) + d, 300 + round(10 * x)] for d in (10, -10))
    assert below.tolist() == [255, 0, 0] and above.tolist() != [255, 0, 0]
    scan = LidarScan(np.array([[x, 1, z], [0, 0, -3], [0, 0, 300]], np.float32), np.eye(4), 0)
    gray = (drawing.birds_eye(CAMERA, scan, 800) != before).any(-1)
    assert np.argwhere(gray).tolist() == [[800 - 10 * z, 300 + 10 * x]]


def test_a_page_holds_its_pictures_and_escapes_its_text() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = RED
    rows = [("a<b", "1.25", None), ("plain", "0.50", "+3")]
    text = page("<title>", [table("x & y", rows, ("name", "n", "m")), figure(picture, '"quoted"')])
    assert "&lt;title&gt;" in text and "a&lt;b" in text and "x &amp; y" in text
    assert 'alt="&quot;quoted&quot;"' in text and "http" not in text
    assert text.count("<td class=number>") == 4 and text.count("<th class=number>") == 2
    apart, alike = facts("", {"model": "m", "images": 16}), facts("", {"busy": 9, "late": 16})
    assert apart.count("class=number") == 0 and alike.count("class=number") == 2
    data = re.search(r"base64,([^\"]+)", text).group(1)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == picture.shape and np.abs(shown[20, 50, ::-1] - np.array(RED)).max() < 10
