"""What the node receives of publishers of other durability than its own."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from lemumo_core.geometry.camera import Camera
from lemumo_core.streaming.cameras import Cameras
from lemumo_ros.parameter_server import ParameterServer
from lemumo_ros.publish.rclpy_builder import build
from lemumo_ros.subscriptions import subscribe
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.waiting import wait_until

CAMERA = Camera(16, 8, 10.0, 10.0, 7.5, 3.5)


@pytest.mark.parametrize(
    ("companion", "topic", "latched", "override"),
    [
        ("lidar", "camera_info", True, ""),
        ("thermal", "thermal_info", True, ""),
        ("lidar", "camera_info", True, "transient_local"),
        ("thermal", "camera_info", False, ""),
        ("lidar", "depth_info", False, ""),
    ],
)
def test_camera_info_of_any_durability_arrives(monkeypatch, companion, topic, latched, override):
    """Published once, before the node is there, where it is latched; else again and again."""
    isolate_dds(monkeypatch)
    full = f"/perception/input/{topic}"
    arguments = ["-p", f"qos_overrides.{full}.subscription.durability:={override}"]
    arguments = arguments if override else []
    if topic == "depth_info":
        arguments += ["-p", "companion_source:=compressed_depth"]
    rclpy.init(args=["--ros-args", *arguments])
    node = publisher_node = None
    try:
        publisher_node = rclpy.create_node("driver")
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        publisher = publisher_node.create_publisher(CameraInfo, full, qos)
        info = build.camera_info(CAMERA, build.header(10**18, "front"))
        publisher.publish(info)
        node = rclpy.create_node("perception")
        settings = ParameterServer(node).read()
        cameras = Cameras(settings.camera_options(), companion, time.monotonic_ns, time.time_ns)
        subscriptions = subscribe(node, settings, cameras, companion)
        camera = cameras.inputs["camera"]
        assert camera.calibration.image_topic == "/perception/input/image"
        calibration = camera.calibration
        if topic == "depth_info":
            assert "~/input/points" not in subscriptions
            depth = "/perception/input/depth_image/compressedDepth"
            assert camera.companion_calibration.image_topic == depth
        if topic != "camera_info":
            calibration = camera.companion_calibration

        def step() -> None:
            if not latched:
                publisher.publish(info)
            rclpy.spin_once(node, timeout_sec=0.05)

        wait_until(lambda: len(calibration.infos), "the CameraInfo", step)
        if override:
            found = subscriptions[f"~/input/{topic}"].qos_profile.durability
            assert found == DurabilityPolicy.TRANSIENT_LOCAL
    finally:
        for one in (node, publisher_node):
            if one is not None:
                one.destroy_node()
        rclpy.shutdown()
