"""What the worker infers, and for whom."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from lemumo_core.frame import LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.inference.package import load_package
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.streaming.points import LABELED_FIELDS
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.point_run import write_point_run
from tests.helpers.small_frames import small_frames
from tests.helpers.waiting import wait_until

CAMERA = Camera(192, 96, 100.0, 100.0, 95.5, 47.5)


def test_debug_topics_alone_are_served_and_a_pause_is_no_latency(configured_node) -> None:
    node = configured_node
    camera = node._worker.cameras.inputs["camera"]
    health, listener = camera.health, rclpy.create_node("listener")
    heard: list = []

    def listen(kind, topic: str):
        full = f"/perception/{topic}"
        subscription = listener.create_subscription(kind, full, heard.append, QoSProfile(depth=5))
        wait_until(lambda: node.count_subscribers(full), "the node to see a listener")
        return subscription

    def send() -> None:
        header = build.header(node.get_clock().now().nanoseconds, "camera")
        camera.on_camera_info(build.camera_info(CAMERA, header))
        camera.on_image(build.image(np.zeros((96, 192, 3), np.uint8), "rgb8", header))

    def spin() -> None:
        rclpy.spin_once(listener, timeout_sec=0.02)

    times = listen(Float64, "debug/processing_time_ms")
    wait_until(node._worker._debug_times["camera"].subscribed, "debug's listener")
    send()
    wait_until(lambda: health.frames_out == 1 and heard, "a result that only debug hears", spin)
    assert heard[0].data > 0

    listener.destroy_subscription(times)
    wait_until(lambda: not node._worker._debug_times["camera"].subscribed(), "debug to be alone")
    send()
    wait_until(lambda: health.drops["unwatched"] == 1, "a frame without listeners")
    listen(Detection3DArray, "output/detections_3d")
    wait_until(lambda: node._worker.publishers["camera"].subscribed(), "the output's listener")
    send()
    wait_until(lambda: health.frames_out == 2, "a result after the pause")
    latency = health.latency_ms()
    assert "total" in latency and "cyclic" not in latency  # no two results without a pause
    listener.destroy_node()


def test_what_is_drawn_holds_up_no_result(configured_node, monkeypatch) -> None:
    node, go_on, stamps_ns = configured_node, threading.Event(), []

    def slow(build, result) -> MarkerArray:
        assert go_on.wait(60)
        stamps_ns.append(result.perception.stamp_ns)
        return MarkerArray()

    publisher = node._worker.publishers["camera"]
    monkeypatch.setitem(publisher._builders, "markers", slow)
    camera, listener, heard = node._worker.cameras.inputs["camera"], rclpy.create_node("eye"), []
    for kind, name in ((Detection3DArray, "detections_3d"), (MarkerArray, "markers")):
        topic = f"/perception/output/{name}"
        listener.create_subscription(kind, topic, heard.append, QoSProfile(depth=5))
    wait_until(lambda: len(publisher.subscribed()) == 2, "the output's listeners")
    sent_ns = []
    for count in range(1, 4):
        sent_ns.append(node.get_clock().now().nanoseconds)
        header = build.header(sent_ns[-1], "camera")
        camera.on_camera_info(build.camera_info(CAMERA, header))
        camera.on_image(build.image(np.zeros((96, 192, 3), np.uint8), "rgb8", header))
        wait_until(
            lambda wanted=count: len(heard) == wanted,
            "a result though markers are still drawn",
            lambda: rclpy.spin_once(listener, timeout_sec=0.02),
        )
    assert {type(message) for message in heard} == {Detection3DArray}
    go_on.set()
    wait_until(
        lambda: len(heard) == 5, "two markers", lambda: rclpy.spin_once(listener, timeout_sec=0.02)
    )
    assert stamps_ns == [sent_ns[0], sent_ns[2]]  # the first one, and the newest one of the others
    listener.destroy_node()


def test_objects_are_tracked_where_that_is_asked_for(make_node, toy_package) -> None:
    """Its three boxes stand still in the camera's frame, which drives along x of odom at 5 m/s."""
    pytest.importorskip("scipy", reason="needs: pip install '.[tracking]'")
    model = "-p", f"model:={toy_package}", "-p", "backend:=onnxruntime"
    node = make_node(*model, "-p", "tracking:=true", "-p", "fixed_frame:=odom")
    assert node.start_by_itself()
    camera = node._worker.cameras.inputs["camera"]
    listener, heard = rclpy.create_node("listener"), []
    topic = "/perception/output/detections_3d"
    listener.create_subscription(Detection3DArray, topic, heard.append, QoSProfile(depth=5))
    wait_until(lambda: node._worker.publishers["camera"].subscribed(), "the output's listener")
    begin_ns = node.get_clock().now().nanoseconds
    for i in range(3):
        stamp_ns = begin_ns + i * 100_000_000
        header = build.header(stamp_ns, "camera")
        T = make_T(np.eye(3), np.array([0.5 * i, 0.0, 0.0]))
        camera.transforms.set("odom", "camera", T, stamp_ns)
        camera.on_camera_info(build.camera_info(CAMERA, header))
        camera.on_image(build.image(np.zeros((96, 192, 3), np.uint8), "rgb8", header))
        wait_until(
            lambda sent=i + 1: len(heard) == sent,
            "a result",
            lambda: rclpy.spin_once(listener, timeout_sec=0.02),
        )
    first, _, last = ([one.id for one in message.detections] for message in heard)
    assert set(first) == {""} and sorted(last) == ["1", "2"]
    found = heard[-1].detections[0].results[0].pose
    assert 0 < found.covariance[0] < 0.2 and found.pose.position.x == pytest.approx(2.0, abs=0.3)
    assert camera.health.latency_ms()["track"]["p50"] > 0
    assert "relative" not in node.parameters.read().tracking_warning
    listener.destroy_node()


def test_a_3d_network_labels_every_return(make_node, toy_package, tmp_path) -> None:
    pytest.importorskip("torch", reason="the 3D network needs: pip install '.[train]'")
    names = load_package(toy_package).manifest.segmentation_classes
    run = write_point_run(tmp_path / "points", names)
    model = "-p", f"model:={toy_package}", "-p", "backend:=onnxruntime"
    identity = [float(i % 5 == 0) for i in range(16)]
    node = make_node(*model, "-p", f"points_model:={run}", "-p", f"extrinsics:={identity}")
    assert node.start_by_itself()
    camera = node._worker.cameras.inputs["camera"]
    listener, heard = rclpy.create_node("listener"), []
    topic = "/perception/output/points_labeled"
    listener.create_subscription(PointCloud2, topic, heard.append, QoSProfile(depth=5))
    wait_until(lambda: node._worker.publishers["camera"].subscribed(), "the output's listener")
    header = build.header(node.get_clock().now().nanoseconds, "camera")
    points = small_frames(1)[0].companion.points
    camera.on_camera_info(build.camera_info(CAMERA, header))
    camera.on_companion(build.point_cloud(points, ("x", "y", "z", "intensity"), header))
    camera.on_image(build.image(np.zeros((96, 192, 3), np.uint8), "rgb8", header))
    wait_until(lambda: heard, "the cloud", lambda: rclpy.spin_once(listener, timeout_sec=0.02))
    found = np.frombuffer(heard[0].data, np.float32).reshape(-1, len(LABELED_FIELDS))
    expected, _ = PointLabeler(run)(LidarScan(points, np.eye(4), 0))
    np.testing.assert_array_equal(found[:, LABELED_FIELDS.index("label")], expected)
    listener.destroy_node()


def test_a_3d_network_that_cannot_be_loaded_is_named(make_node, toy_package, tmp_path) -> None:
    model = "-p", f"model:={toy_package}", "-p", "backend:=onnxruntime"
    node = make_node(*model, "-p", f"points_model:={tmp_path}")
    assert not node.start_by_itself()
    assert "finished run of lemumo finetune --task points" in node.diagnostics.fault
