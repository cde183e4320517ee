"""LiDAR scans without a return in view: not used, counted, and the likely cause named."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lemumo_core.frame import LidarScan
from lemumo_core.geometry.se3 import inverse, make_T
from lemumo_core.preprocess import InputSpec, preprocess
from lemumo_core.streaming.empty_view import (
    EMPTY_VIEWS,
    BlankImages,
    EmptyViews,
    explain_empty_view,
    is_blank,
)
from tests.helpers.small_frames import small_frames

SPEC = InputSpec(64, 176, "lidar", 2)
R_OPTICAL_BODY = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


class Result:
    """Make a Perception of what counts here."""

    def __init__(self, *modalities: str) -> None:
        self.modalities = modalities


def frame_with(T=None, points=None):
    frame = small_frames(1)[0]
    scan = frame.companion
    T = scan.T_camera_lidar if T is None else T
    return replace(frame, companion=LidarScan(scan.points if points is None else points, T, 0))


def ahead(x, y, z):
    """Returns around one direction, 8 to 30 m away."""
    rng = np.random.default_rng(5)
    distance = rng.uniform(8, 30, (200, 1))
    directions = np.array([x, y, z]) + rng.uniform(-0.1, 0.1, (200, 3))
    return (distance * directions).astype(np.float32)


@pytest.mark.parametrize(
    ("T", "points", "cause"),
    [
        (np.eye(4), ahead(1, 0, 0), "200 of 200 returns would be in view if the image's frame"),
        (make_T(R_OPTICAL_BODY, np.zeros(3)), ahead(0, 0, 1), "if the cloud were z forward"),
        (
            inverse(make_T(R_OPTICAL_BODY, np.zeros(3))),
            ahead(1, 0, 0),
            "extrinsics were inverted",
        ),
        (np.eye(4), ahead(0, 0, -1), "all 200 returns are behind the camera"),
        (np.eye(4), np.zeros((50, 4), np.float32), "holds no return"),
    ],
)
def test_the_likely_cause(T, points, cause):
    assert cause in explain_empty_view(frame_with(T, points))


def test_a_scan_without_a_return_in_view_is_absent_for_the_network():
    seen, empty = (
        preprocess(frame_with(), SPEC),
        preprocess(frame_with(np.diag([-1, -1, -1, 1.0])), SPEC),
    )
    np.testing.assert_array_equal(seen.present, [[1, 1]])
    np.testing.assert_array_equal(empty.present, [[1, 0]])
    alone = replace(frame_with(np.diag([-1, -1, -1, 1.0])), image=None)
    np.testing.assert_array_equal(preprocess(alone, SPEC).present, [[0, 1]])


def test_named_after_some_frames_and_forgotten_with_the_first_return():
    views, frame = EmptyViews(), frame_with(np.eye(4), ahead(1, 0, 0))
    causes = [views.update(frame, Result("camera")) for _ in range(EMPTY_VIEWS + 1)]
    assert causes[: EMPTY_VIEWS - 1] == [""] * (EMPTY_VIEWS - 1)
    assert all("x forward" in cause for cause in causes[EMPTY_VIEWS - 1 :])
    assert views.update(frame, Result("camera", "lidar")) == ""
    assert views.update(frame, Result("camera")) == "" and views.count == EMPTY_VIEWS + 2
    assert EmptyViews().update(replace(frame, companion=None), Result("camera")) == ""


@pytest.mark.parametrize("level", [0, 8, 128, 255])
def test_an_image_of_one_colour_is_blank_also_with_noise(level):
    for shape in ((240, 320, 3), (1080, 1920, 3)):
        noise = np.random.default_rng(0).normal(level, 5.0, shape)
        for image in (np.full(shape, level, np.uint8), noise.clip(0, 255).astype(np.uint8)):
            assert is_blank(image)
        image[:, 200:] = np.clip(image[:, 200:].astype(int) + (20 if level < 200 else -20), 0, 255)
        assert not is_blank(image)


def test_a_night_is_not_blank(shared_data):
    for path in sorted((shared_data / "kaist_rgbt").glob("*_visible.png")):
        assert not is_blank(cv2.imread(str(path)) // 8)


def test_blank_images_are_named_after_some_and_forgotten_with_the_first_that_is_not():
    black, images = np.zeros((24, 32, 3), np.uint8), BlankImages()
    street = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    found = [images.update(black) for _ in range(EMPTY_VIEWS + 1)]
    assert found == [False] * EMPTY_VIEWS + [True]
    assert images.update(None)  # the LiDAR alone says nothing of the camera
    found = [images.update(street) for _ in range(EMPTY_VIEWS)]
    assert found == [True] * (EMPTY_VIEWS - 1) + [False]
    # One flash is no covered lens.
    assert not any(images.update(one) for one in [street] * 4 + [black] + [street] * EMPTY_VIEWS)
