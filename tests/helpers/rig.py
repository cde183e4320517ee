"""A camera and a LiDAR that send to a node under test, well or badly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.node_process import INPUTS, NodeUnderTest
from tests.helpers.waiting import LIMIT_S

WIDTH, HEIGHT = 192, 96
PERIOD_S = 0.05
QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

Change = Callable[[dict[str, Any]], Any]


def cloud(points: np.ndarray, kind: int = PointField.FLOAT32, dtype: str = "<f4") -> PointCloud2:
    """A PointCloud2 of x, y, z (N, 3), each of one type."""
    data = np.ascontiguousarray(points).astype(dtype)
    size = data.dtype.itemsize
    message = PointCloud2(height=1, width=len(data), point_step=3 * size)
    message.row_step, message.is_bigendian = len(data) * 3 * size, dtype.startswith(">")
    message.fields = [
        PointField(name=name, offset=i * size, datatype=kind, count=1)
        for i, name in enumerate("xyz")
    ]
    message.data = build.data(data)
    return message


class Rig:
    """Sends a set of messages every ``PERIOD_S``, and remembers the stamps of the bad ones.

    Args:
        under_test: the node.
        image: type of the image's messages.
        now_ns: clock of the stamps; None: the system's.
    """

    def __init__(
        self,
        under_test: NodeUnderTest,
        image: type = Image,
        now_ns: Callable[[], int] | None = None,
    ):
        self.under_test, self.node = under_test, under_test.node
        self.now_ns = now_ns or (lambda: self.node.get_clock().now().nanoseconds)
        self.kinds = {"image": image, "camera_info": CameraInfo, "points": PointCloud2}
        self.topics = {name: INPUTS[name] for name in self.kinds}
        if image is CompressedImage:
            self.topics["image"] = INPUTS["image/compressed"]
        self.publishers = {name: self.publisher(name) for name in self.kinds}
        self.tf = self.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.rng = np.random.default_rng(0)
        self.pixels = self.rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        self.points = self.rng.uniform((-5, -3, 4), (5, 3, 30), (400, 3)).astype(np.float32)
        self.bad_ns: set[int] = set()
        self.last_ns = 0
        self._due = 0.0

    def publisher(self, name: str, qos: QoSProfile = QOS) -> Any:
        """One more publisher of an input."""
        return self.node.create_publisher(self.kinds[name], self.topics[name], qos)

    def connect(self) -> None:
        """Wait until the node subscribed to all."""
        self.under_test.spin_until(
            lambda: all(p.get_subscription_count() for p in self.publishers.values())
        )

    def transform(self, parent: str = "camera", child: str = "lidar", x: float = 0.0) -> None:
        """Publish one on ``/tf_static``."""
        self.tf.publish(TFMessage(transforms=[transform(parent, child, x)]))

    def messages(self) -> dict[str, Any]:
        """A good set, its keys in the order of sending."""
        stamp_ns = self.now_ns()
        header = build.header(stamp_ns, "camera")
        points = cloud(self.points)
        points.header = build.header(stamp_ns, "lidar")
        camera = Camera(WIDTH, HEIGHT, 100.0, 100.0, 95.5, 47.5)
        return {
            "camera_info": build.camera_info(camera, header),
            "points": points,
            "image": build.image(self.pixels, "rgb8", header),
        }

    def send(self, change: Change | None = None, bad: bool = False) -> int:
        """Send one set, changed by ``change(messages)``; returns the image's stamp, ns."""
        messages = self.messages()
        if change:
            change(messages)
        for name, message in messages.items():
            if message is not None:
                self.publishers[name].publish(message)
        if messages["image"] is None:
            return self.last_ns
        self.last_ns = stamp_to_ns(messages["image"].header.stamp)
        if bad:
            self.bad_ns.add(self.last_ns)
        return self.last_ns

    def run(self, seconds: float, change: Change | None = None, bad: bool = False) -> None:
        """Send at the rate for a while."""
        end = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() > end, change, bad, seconds + LIMIT_S)

    def run_until(
        self,
        condition: Callable[[], Any],
        change: Change | None = None,
        bad: bool = False,
        timeout_s: float = LIMIT_S,
    ) -> float:
        """Send at the rate until the condition holds; returns the seconds that it took."""
        started = time.monotonic()

        def step() -> Any:
            if time.monotonic() >= self._due:
                self._due = max(time.monotonic(), self._due + PERIOD_S)
                self.send(change, bad)
            return condition()

        self.under_test.spin_until(step, timeout_s, pause_s=0.01)
        return time.monotonic() - started

    def results(self, since_ns: int = 0) -> list[Any]:
        """Depth images of stamps after this one."""
        depths = self.under_test.messages["depth/image_raw"]
        return [m for m in depths if stamp_to_ns(m.header.stamp) > since_ns]

    def result_of(self, change: Change | None = None) -> Any:
        """The depth image of a set that was sent from now on, fused or not."""
        self.run_until(lambda: True)
        since_ns = self.now_ns()
        self.run_until(lambda: self.results(since_ns), change)
        return self.results(since_ns)[-1]

    def drops(self, reason: str) -> int:
        """How many of them the node has told of."""
        return int(self.under_test.values.get(f"drops/{reason}", 0))

    def refused(self, reason: str, change: Change) -> float:
        """Send bad sets until they are counted under the reason; the seconds that it took."""
        before = self.drops(reason)
        took_s = self.run_until(lambda: self.drops(reason) > before, change, bad=True)
        self.under_test.spin(2 * PERIOD_S)  # none is left that what comes next could mend
        return took_s

    def status(self, name: str = "camera") -> tuple[int, str]:
        """Level and message of a diagnostic status."""
        level, message, _ = self.under_test.statuses.get(f"lemumo: {name}", (-1, "", {}))
        return level, message

    def published_bad(self) -> list[Any]:
        """Results of bad sets: there must be none."""
        return [m for m in self.results() if stamp_to_ns(m.header.stamp) in self.bad_ns]


def transform(parent: str, child: str, x: float = 0.0) -> TransformStamped:
    """A translation along x, metres."""
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.transform.translation.x = x
    message.transform.rotation.w = 1.0
    return message
