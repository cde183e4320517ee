"""Messages of a result, read as a consumer of depth images reads them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.frame import UNLABELLED, Detections, Frame, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.streaming.outputs import BUILDERS, Result
from lemumo_core.taxonomy import Taxonomy
from lemumo_core.taxonomy.rules import Rules

WIDE = Camera(160, 120, 90.0, 91.0, 79.5, 59.5, "plumb_bob", (-0.25, 0.04, 0.001, 0.0))
CLASSES = Taxonomy(segmentation_classes=("road", "building"))
PALETTE = ((128, 64, 128), (70, 70, 70))
V, U = np.mgrid[: WIDE.height, : WIDE.width]


def off_the_plane_m(depth_m: np.ndarray, P: np.ndarray) -> float:
    """Largest distance along z, from z = 20 + .3x, of points as depth_image_proc makes them."""
    fx, cx = P[0], P[2]
    return float(np.nanmax(np.abs(depth_m - (20 + 0.3 * (U - cx) * depth_m / fx))))


def test_depth_and_labels_of_a_wide_lens_are_those_of_their_camera_info() -> None:
    rays = WIDE.unproject(np.stack([U.ravel(), V.ravel()], axis=1))
    depth_m = (20 / (1 - 0.3 * rays[:, 0] / rays[:, 2])).reshape(U.shape).astype(np.float32)
    labels = (rays[:, 0] > 0).astype(np.uint8).reshape(U.shape)
    confidence = np.ones(U.shape, np.float32)
    nothing = Detections(np.zeros((0, 7)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    perception = Perception(5, "front", nothing, depth_m, confidence, labels, WIDE, ("camera",))
    result = Result(
        perception, SimpleNamespace(palette=PALETTE, classes=CLASSES), "optical", np.eye(4)
    )
    build = RosbagsBuilder()
    names = ("depth/image_raw", "depth/camera_info", "labels", "labels_colored")
    depth, info, ids, colored = (BUILDERS[name](build, result) for name in names)
    published_m = np.frombuffer(depth.data, np.float32).reshape(U.shape)
    assert np.isfinite(published_m).mean() > 0.8
    assert off_the_plane_m(depth_m, info.p) > 0.39  # what the network's own view would give
    assert off_the_plane_m(published_m, info.p) < 0.15  # half a pixel
    shown = np.frombuffer(ids.data, np.uint8).reshape(U.shape)
    right_of_center = (info.p[2] < U).astype(np.uint8)
    known = shown != UNLABELLED
    assert (shown[known] == right_of_center[known]).mean() > 0.99
    colors = np.frombuffer(colored.data, np.uint8).reshape(*U.shape, 3)
    np.testing.assert_array_equal(colors[known], np.uint8(PALETTE)[shown[known]])


@pytest.mark.parametrize("sky", ["sky", "heaven"])
def test_no_depth_is_published_in_the_sky(sky) -> None:
    """Whatever the model calls it; else a wall would stand there."""
    classes = Taxonomy(segmentation_classes=("building", sky), rules=Rules(kinds={"heaven": "sky"}))
    labels = np.uint8([[1, 1, UNLABELLED], [0, 1, 0]])
    depth_m = np.float32([[9, np.nan, np.nan], [5, 9, 6]])
    nothing = Detections(np.zeros((0, 7)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    camera = Camera(3, 2, 2.0, 2.0, 1.0, 0.5)
    perception = Perception(5, "front", nothing, depth_m, depth_m, labels, camera, ("camera",))
    frame = Frame(5, "front", camera, np.zeros((2, 3, 3), np.uint8))
    result = Result(perception, SimpleNamespace(classes=classes), "optical", np.eye(4), frame=frame)
    build = RosbagsBuilder()
    depth, points = (BUILDERS[name](build, result) for name in ("depth/image_raw", "points"))
    published_m = np.frombuffer(depth.data, np.float32)
    np.testing.assert_array_equal(published_m, [np.nan] * 3 + [5, np.nan, 6])
    assert points.width == 2
