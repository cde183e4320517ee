"""Compressed images and QoS that does not fit: rows 9 and 12 of the fault table."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from lemumo_core.streaming.health import Level
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.node_process import INPUTS
from tests.helpers.rig import QOS, Rig

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("nothing_bad")]
TOPIC = INPUTS["image/compressed"]


@pytest.fixture(scope="module")
def rig(launch) -> Rig:
    overrides = {f"qos_overrides.{TOPIC}.subscription.reliability": "reliable"}
    identity = [float(i % 5 == 0) for i in range(16)]
    node = launch(image_transport="compressed", extrinsics=identity, **overrides)
    return Rig(node, CompressedImage)


def compressed(pixels: np.ndarray, codec: str = "jpeg", bomb: bytes = b"", cut: int | None = None):
    """A change to a set: its image becomes a file."""

    def change(messages) -> None:
        data = cv2.imencode(f".{codec}", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
        if bomb:
            at = data.index(b"\xff\xc0") + 5
            data = data[:at] + bomb + data[at + 4 :]
        message = CompressedImage(header=messages["image"].header, format=codec)
        message.data = build.data(np.frombuffer(data[:cut], np.uint8))
        messages["image"] = message

    return change


@pytest.mark.fault(12)
def test_qos_that_does_not_fit_is_named_and_a_fitting_publisher_is_taken(rig, seen) -> None:
    rig.node.destroy_publisher(rig.publishers["image"])
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    rig.publishers["image"] = rig.publisher("image", best_effort)
    good = compressed(rig.pixels)
    rig.run_until(lambda: "QoS" in rig.status()[1], good)
    level, message = rig.status()
    assert level == Level.WARN and TOPIC in message and not rig.results()
    rig.run_until(lambda: "no image arrives" in rig.under_test.log.read_text(), good)
    rig.node.destroy_publisher(rig.publishers["image"])
    rig.publishers["image"] = rig.publisher("image", QOS)
    took_s = rig.run_until(rig.results, good)
    seen(f"best effort against reliable: named in diagnostics and log; mended in {took_s:.1f} s")


@pytest.mark.fault(9)
def test_files_that_are_broken_or_absurd_are_refused(rig, seen) -> None:
    pixels = rig.pixels
    size = (60_000).to_bytes(2, "big")

    def renamed(messages) -> None:
        compressed(pixels)(messages)
        messages["image"].format = "rgb8; png compressed bgr8"

    def sixteen_bits(messages) -> None:
        compressed(pixels)(messages)
        data = cv2.imencode(".png", np.zeros((96, 192), np.uint16))[1]
        messages["image"].format = "png"
        messages["image"].data = build.data(data.ravel())

    for reason, change in (
        ("bad_image", compressed(pixels, cut=700)),
        ("unsupported_encoding", compressed(pixels, cut=0)),
        ("bad_image", compressed(pixels, bomb=2 * size)),
        ("bad_image", renamed),
        ("unsupported_encoding", sixteen_bits),
        ("unsupported_encoding", compressed(pixels, "bmp")),
    ):
        rig.refused(reason, change)
    for codec in ("jpeg", "png"):
        since_ns = rig.now_ns()
        rig.run_until(lambda s=since_ns: rig.results(s), compressed(pixels, codec))
    seen("truncated, 60000 x 60000, JPEG called PNG, 16 bit PNG, BMP: refused; JPEG and PNG taken")
