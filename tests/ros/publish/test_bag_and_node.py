"""The results bag and the node write the same bytes for the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install '.[ros]'")
pytest.importorskip("vision_msgs", reason="needs vision_msgs: python interfaces/build.py")
pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rclpy.serialization import serialize_message

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.frame import NO_TRACK, Detections, Tracks
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.messages.markers import markers
from lemumo_core.messages.tracks import add_poses, track_names
from lemumo_ros.publish.rclpy_builder import RclpyBuilder

NAMES = ("car", "pedestrian")
T_OUTPUT_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([2.0, 0, 1.5]))


def detections(count: int) -> Detections:
    rng = np.random.default_rng(0)
    boxes_3d = rng.uniform((-5, 0, 4, 1, 1, 1, -3), (5, 2, 40, 5, 2, 2, 3), (count, 7))
    corners = rng.uniform(0, 300, (count, 2))
    boxes_2d = np.c_[corners, corners + rng.uniform(5, 50, (count, 2))]
    boxes_2d[1:2] = 0  # an object that the image does not show
    return Detections(
        boxes_3d.astype(np.float32),
        boxes_2d.astype(np.float32),
        rng.uniform(0, 1, count).astype(np.float32),
        np.arange(count) % len(NAMES),
    )


def messages(build: MessageBuilder, count: int) -> dict[str, Any]:
    """Every kind of message, of one result with so many detections."""
    rng = np.random.default_rng(1)
    depth_m = rng.uniform(1, 80, (6, 10)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.3] = np.nan
    found = detections(count)
    header = build.header(1_700_000_000_123_456_789, "camera_optical")
    fisheye = Camera(64, 48, 30.0, 31.0, 31.0, 24.0, "equidistant", (0.01, -0.002, 0.0, 0.0))
    rgb = rng.integers(0, 256, (6, 10, 3), np.uint8)
    tracks = Tracks(
        np.where(np.arange(count) % 3 == 1, NO_TRACK, np.arange(count) + 1),
        rng.normal(0, 9, (count, 3)).astype(np.float32),
        rng.normal(0, 9, (count, 3)).astype(np.float32),
        rng.normal(0, 1, (count, 6, 6)).astype(np.float32),
    )
    names, colors = track_names(tracks), [(255, 0, 0), (0, 9, 255)]
    tracked = build.detections_3d(found, NAMES, T_OUTPUT_CAMERA, header, names)
    add_poses(build, tracked, tracks, T_OUTPUT_CAMERA)
    return {
        "detections_3d with tracks": tracked,
        "detections_2d with tracks": build.detections_2d(found, NAMES, header, names),
        "markers with tracks": markers(
            build, found, NAMES, colors, T_OUTPUT_CAMERA, header, tracks
        ),
        "detections_3d": build.detections_3d(found, NAMES, np.eye(4), header),
        "detections_3d in another frame": build.detections_3d(
            found, NAMES, T_OUTPUT_CAMERA, header
        ),
        "detections_2d": build.detections_2d(found, NAMES, header),
        "depth": build.depth_image(depth_m, "32FC1", header),
        "depth in millimetres": build.depth_image(depth_m, "16UC1", header),
        "depth_camera_info": build.camera_info(fisheye, header),
        "pinhole camera_info": build.camera_info(Camera(64, 48, 30.0, 31.0, 31.0, 24.0), header),
        "labels": build.label_image(rng.integers(0, 12, (6, 10)).astype(np.uint8), header),
        "label_info": build.label_info(("road", "sky"), 0.3, header),
        "overlay": build.jpeg(rgb, 85, header),
        "points": build.point_cloud(depth_m.reshape(-1, 4), ("x", "y", "z", "rgb"), header),
        "markers": markers(build, found, NAMES, colors, T_OUTPUT_CAMERA, header),
        "transforms": build.transforms({"lidar": T_OUTPUT_CAMERA, "camera": np.eye(4)}, header),
    }


@pytest.mark.parametrize("count", [0, 1, 7])
def test_bag_and_node_write_the_same_bytes(count: int) -> None:
    bag = RosbagsBuilder()
    assert bag.has_vision_msgs
    of_bag, of_node = messages(bag, count), messages(RclpyBuilder(), count)
    for name, message in of_node.items():
        written, published = bag.serialize(of_bag[name]), serialize_message(message)
        assert len(written) == len(published), name
        # CDR leaves open what padding holds, and Fast CDR fills it with what was in memory.
        kind = of_bag[name].__msgtype__
        assert bag.serialize(bag.typestore.deserialize_cdr(published, kind)) == written, name


def test_a_message_without_all_its_fields_is_refused() -> None:
    """A field that is left out would share its default with every other message."""
    with pytest.raises(TypeError, match="frame_id"):
        RclpyBuilder().new("std_msgs/Header", stamp=RclpyBuilder().stamp(0))
    with pytest.raises(TypeError, match="frame"):
        RclpyBuilder().new("std_msgs/Header", stamp=RclpyBuilder().stamp(0), frame="camera")


def test_messages_share_nothing_that_can_change() -> None:
    build = RclpyBuilder()
    camera = Camera(64, 48, 30.0, 31.0, 31.0, 24.0)
    first, second = (build.camera_info(camera, build.header(0, "camera")) for _ in range(2))
    first.roi.width, first.k[0], first.d[0] = 7, 7.0, 7.0
    assert (second.roi.width, second.k[0], second.d[0]) == (0, 30.0, 0.0)
