"""Depth images to points, and whole RGB-D bags, against depth that is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.depth_images import depth_points, depth_to_array
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from tests.helpers.rgbd_bag import depth_message, write_rgbd_bag
from tests.helpers.small_frames import small_frames

BUILD = RosbagsBuilder()
HEADER = BUILD.header(10**18, "depth")
COLORS = BUILD.image(np.zeros((4, 4, 3), np.uint8), "rgb8", HEADER)
REALSENSE = {
    "image": "/camera/camera/color/image_raw",
    "camera_info": "/camera/camera/color/camera_info",
    "depth": "/camera/camera/aligned_depth_to_color/image_raw",
    "depth_info": "/camera/camera/aligned_depth_to_color/camera_info",
}
ZED = {
    "image": "/zed/zed_node/rgb/image_rect_color",
    "camera_info": "/zed/zed_node/rgb/camera_info",
    "depth": "/zed/zed_node/depth/depth_registered",
    "depth_info": "/zed/zed_node/depth/camera_info",
}
ORBBEC = {
    "image": "/camera/color/image_raw",
    "camera_info": "/camera/color/camera_info",
    "depth": "/camera/depth/image_raw/compressedDepth",
    "depth_info": "/camera/depth/camera_info",
}


@pytest.mark.parametrize(
    ("encoding", "error_m"),
    [
        ("16UC1", 5.1e-4),
        ("32FC1", 0.0),
        ("16UC1 compressed", 5.1e-4),
        ("32FC1 compressed", 0.7),  # by inverse depth: 1 mm near, .6 m at 80 m
    ],
)
def test_every_encoding_gives_the_depth_within_its_quantisation(encoding, error_m) -> None:
    depth_m = np.random.default_rng(0).uniform(0.4, 60, (24, 32)).astype(np.float32)
    depth_m[:3] = np.nan
    found = depth_to_array(depth_message(BUILD, depth_m, encoding, HEADER))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(depth_m))
    assert np.nanmax(np.abs(found - depth_m)) <= error_m
    if encoding == "32FC1 compressed":
        relative = np.abs(found - depth_m) / depth_m**2
        assert np.nanmax(relative) < 1.5 / 10100  # one step of A / depth


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (
            BUILD.image(np.zeros((4, 4, 3), np.uint8), "rgb8", HEADER),
            "unsupported_encoding",
            "rgb8",
        ),
        (
            SimpleNamespace(format="16UC1; compressedDepth rvl", data=b""),
            "unsupported_encoding",
            "compressedDepth.format to png",
        ),
        (
            SimpleNamespace(format="rgb8; jpeg compressed bgr8", data=b""),
            "unsupported_encoding",
            "rgb8; jpeg",
        ),
        (SimpleNamespace(format="16UC1; compressedDepth png", data=b"12"), "bad_image", "2 bytes"),
    ],
)
def test_what_is_no_depth_image_is_named(message, reason, words) -> None:
    with pytest.raises(Fault, match=words) as caught:
        depth_to_array(message)
    assert caught.value.reason == reason


def test_points_project_to_the_pixels_that_they_came_from() -> None:
    camera = Camera(64, 48, 40.0, 41.0, 31.0, 24.0, "plumb_bob", (-0.2, 0.05, 0.001, 0.0))
    depth_m = np.random.default_rng(0).uniform(0.5, 9, (48, 64)).astype(np.float32)
    depth_m[::3] = np.nan
    points = depth_points(depth_m, camera)
    uv, valid = camera.project(points.astype(np.float64))
    v, u = np.nonzero(np.isfinite(depth_m))
    assert valid.all()
    np.testing.assert_allclose(uv, np.stack([u, v], axis=1), atol=1e-3)
    np.testing.assert_array_equal(points[:, 2], depth_m[v, u])
    with pytest.raises(Fault, match="the depth image is 64x48, its camera_info says 32x24"):
        depth_points(depth_m, camera.scaled(32, 24))


@pytest.mark.parametrize(
    ("topics", "encoding"),
    [(REALSENSE, "16UC1"), (ZED, "32FC1"), (ORBBEC, "16UC1 compressed")],
    ids=["realsense", "zed", "orbbec"],
)
def test_a_bag_of_an_rgbd_camera_needs_no_names(tmp_path, topics, encoding) -> None:
    """The source and the replay find its depth, which is the true one within a millimetre."""
    street = small_frames(2)
    bag = write_rgbd_bag(street, tmp_path / "bag", topics, encoding)
    source = Bags(bag)
    with BagReader(bag) as reader:
        found = find_topics(reader)
        assert (found.points, found.depth_info) == (topics["depth"], topics["depth_info"])
        clock = BagClock()
        camera = CameraInput("camera", "lidar", CameraOptions(), Health(clock), clock)
        replayed = [event.frame for event in feed(reader, [CameraFeed(found, camera)])]
    assert len(source) == len(replayed) == len(street)
    for truth, frame, again in zip(street, source, replayed, strict=True):
        points = frame.companion.points
        np.testing.assert_array_equal(points, again.companion.points)
        np.testing.assert_array_equal(frame.companion.T_camera_lidar, np.eye(4))
        uv, _ = truth.camera.project(points.astype(np.float64))
        column, row = np.rint(uv).astype(int).T
        known = np.isfinite(truth.labels.depth_m) & (truth.labels.depth_m < 65.5)
        assert len(points) >= known.sum() > 1000
        error_m = np.abs(points[:, 2] - truth.labels.depth_m[row, column]).max()
        print(f"{encoding}: largest error of depth: {1000 * error_m:.2f} mm")
        assert error_m < 6e-4


def test_a_depth_image_needs_its_calibration_and_gives_way_to_a_lidar(tmp_path) -> None:
    alone = {**REALSENSE, "depth_info": "/elsewhere/info"}
    bag = write_rgbd_bag(small_frames(1), tmp_path / "bag", alone)
    with BagReader(bag) as reader:
        # By its frame_id, which is that of the colour camera.
        assert find_topics(reader).depth_info is not None
        with pytest.raises(Fault, match="name it with --depth-info"):
            find_topics(reader, points=REALSENSE["depth"], depth_info="")
        assert find_topics(reader, points="").points is None
