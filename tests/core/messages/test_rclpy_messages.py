"""Where ROS is installed, its messages and converters give the same arrays."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lemumo_core.messages.camera_info import camera_from_info, rectifying_transform
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.messages.transforms import transform_to_matrix
from tests.helpers.message_builders import (
    HEADER,
    SMALL,
    compressed_message,
    image_message,
    info_message,
    random_image,
    through_rclpy,
    transform_message,
    xyz_message,
)
from tests.helpers.paths import ROOT


def test_stamp() -> None:
    assert stamp_to_ns(SimpleNamespace(sec=1_700_000_000, nanosec=5)) == 1_700_000_000_000_000_005


def test_no_ros_is_imported() -> None:
    code = (
        "import sys\n"
        "from lemumo_core.messages import camera_info, images, points, stamps, transforms\n"
        "sys.exit(any(m.startswith(('rclpy', 'rosbags', 'cv_bridge')) or m.endswith('_msgs') "
        "for m in sys.modules))"
    )
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("function", "msg"),
    [
        (image_to_rgb, image_message(random_image(5, 6, 3), "rgb8", 3)),
        (image_to_rgb, image_message(random_image(5, 6, 4), "bgra8", 3)),
        (image_to_rgb, image_message(random_image(6, 6, 2), "yuv422_yuy2")),
        (image_to_rgb, compressed_message(SMALL[".jpg"], "jpeg")),
        (thermal_to_array, image_message(random_image(5, 6, dtype=np.uint16), "mono16", 1)),
        (thermal_to_array, image_message(random_image(5, 6, dtype=np.uint16), "16UC1", 0, True)),
        (points_to_array, xyz_message(np.random.default_rng(0).normal(size=(30, 4)))),
        (points_to_array, xyz_message(np.ones((30, 3)), is_bigendian=True, height=5, width=6)),
        (lambda msg: camera_from_info(msg).K, info_message()),
        (rectifying_transform, info_message()),
        (transform_to_matrix, transform_message([1, 2, 3], [0.5, 0.5, -0.5, 0.5])),
        (lambda msg: np.array(stamp_to_ns(msg.stamp)), HEADER),
    ],
)
def test_rclpy_messages_give_equal_results(function: Any, msg: Any) -> None:
    if hasattr(msg, "row_step"):
        msg.row_step = msg.width * msg.point_step
    np.testing.assert_array_equal(function(through_rclpy(msg)), function(msg))


def test_clouds_equal_sensor_msgs_py() -> None:
    point_cloud2 = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="needs an apt ROS (ros-*-sensor-msgs-py)"
    )
    msg = through_rclpy(xyz_message(np.random.default_rng(0).normal(size=(500, 4))))
    names = ["x", "y", "z", "intensity"]
    expected = point_cloud2.read_points_numpy(msg, field_names=names)
    np.testing.assert_array_equal(points_to_array(msg), expected)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8"])
def test_images_equal_cv_bridge(encoding: str) -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="needs an apt ROS (ros-*-cv-bridge)")
    channels = {"mono8": (), "bayer_rggb8": ()}.get(encoding, (len(encoding) - 1,))
    msg = through_rclpy(image_message(random_image(20, 30, *channels), encoding, 4))
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(msg, "rgb8")
    np.testing.assert_array_equal(image_to_rgb(msg), expected)
