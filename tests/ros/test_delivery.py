"""Messages that wait in the queue of an executor which is late, over real DDS."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

import rclpy
from rclpy.duration import Duration
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64
from vision_msgs.msg import Detection3DArray

from lemumo_core.geometry.camera import Camera
from lemumo_core.streaming.sync import MAX_LAG_NS
from lemumo_ros.delivery import DeliveryClock
from lemumo_ros.node import make_executor
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.waiting import LIMIT_S, wait_until

CAMERA = Camera(192, 96, 100.0, 100.0, 95.5, 47.5)
IDENTITY = [float(i % 5 == 0) for i in range(16)]


def deliver(publisher, message) -> None:
    """Publish, and wait until the message is in the queues of its (reliable) subscriptions."""
    wait_until(publisher.get_subscription_count, "a subscription")
    publisher.publish(message)
    assert publisher.wait_for_all_acked(Duration(seconds=LIMIT_S))


@contextlib.contextmanager
def spinning(executor: Executor) -> Iterator[None]:
    """Spin in a thread, as the node's program does."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("make", [make_executor, SingleThreadedExecutor])
def test_the_clock_goes_on_behind_what_waits(monkeypatch, make: Callable[[], Executor]) -> None:
    isolate_dds(monkeypatch)
    rclpy.init()
    try:
        node, sender = rclpy.create_node("late"), rclpy.create_node("sender")
        clock, heard = DeliveryClock(node), []
        before_ns = time.monotonic_ns()
        assert clock() >= before_ns  # nothing waits where no executor spins the node
        node.create_subscription(Float64, "number", heard.append, QoSProfile(depth=5))
        executor = make()
        executor.add_node(node)
        executor.spin_once(timeout_sec=0.0)  # it has seen the subscription
        publisher = sender.create_publisher(Float64, "number", QoSProfile(depth=5))
        deliver(publisher, Float64(data=1.0))
        asked_ns = time.monotonic_ns()
        assert clock() < asked_ns

        def spin() -> None:
            assert heard or clock._reached_ns < asked_ns, "it passed a message that waits"
            executor.spin_once(timeout_sec=0.05)

        wait_until(lambda: clock._reached_ns >= asked_ns, "the clock", spin)
        assert heard
        executor.shutdown()
        for one in (node, sender):
            one.destroy_node()
    finally:
        rclpy.try_shutdown()


class Gate(threading.Event):
    """An event whose first ``set`` returns only when the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def set(self) -> None:
        super().set()
        self.entered.set()
        assert self.go_on.wait(LIMIT_S)


def test_a_scan_that_waits_in_the_queue_is_fused(make_node, toy_package) -> None:
    """The executor stands still between an image and its scan, far past the deadline.

    It does so for longer than stamps and arrivals of one clock otherwise differ.
    """
    values = {"model": toy_package, "backend": "onnxruntime", "extrinsics": IDENTITY}
    values |= {"companion_deadline_ms": 1.0, "max_age_ms": 1e3 * LIMIT_S}
    values |= {
        f"qos_overrides./perception/input/{name}.subscription.reliability": "reliable"
        for name in ("image", "camera_info", "points")
    }
    node = make_node(*(word for key, value in values.items() for word in ("-p", f"{key}:={value}")))
    executor = make_executor()
    executor.add_node(node)
    assert node.start_by_itself()
    cameras, rig = node._worker.cameras, rclpy.create_node("rig")
    health = cameras.inputs["camera"].health
    topic, depth = "/perception/output/detections_3d", QoSProfile(depth=1)
    rig.create_subscription(Detection3DArray, topic, lambda _: None, depth)
    wait_until(node._worker.publishers["camera"].subscribed, "the output's listener")
    kinds = {"camera_info": CameraInfo, "image": Image, "points": PointCloud2}
    publishers = {
        name: rig.create_publisher(kind, f"/perception/input/{name}", depth)
        for name, kind in kinds.items()
    }
    polls, take = [], cameras.take
    cameras.take = lambda *arguments: polls.append(None) or take(*arguments)
    header = build.header(node.get_clock().now().nanoseconds, "camera")
    points = np.array([[0.5, 0.2, 10.0]], np.float32)
    with spinning(executor):
        deliver(publishers["camera_info"], build.camera_info(CAMERA, header))
        wait_until(lambda: cameras.inputs["camera"].calibration.infos._infos, "the CameraInfo")
        cameras.arrived = gate = Gate()
        pixels = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
        deliver(publishers["image"], build.image(pixels, "rgb8", header))
        wait_until(gate.entered.is_set, "the image")
        deliver(publishers["points"], build.point_cloud(points, "xyz", header))
        seen, until_ns = len(polls), time.monotonic_ns() + MAX_LAG_NS
        wait_until(
            lambda: len(polls) > seen + 3 and time.monotonic_ns() > until_ns,
            "polls past the deadline",
        )
        waiting = not health.frames_out and not health.received["lidar"]
        gate.go_on.set()
        assert waiting, "the image did not wait for what the executor had not taken yet"
        wait_until(lambda: health.frames_out, "the result")
    assert health.modalities == {"camera+lidar": 1}
    executor.shutdown()
    rig.destroy_node()
