"""Encodings left to cv_bridge."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.messages.images import image_to_rgb
from lemumo_ros.cv_bridge_images import through_cv_bridge


def image(encoding: str, bytes_of_data: int = 24) -> SimpleNamespace:
    return SimpleNamespace(
        height=4, width=6, encoding=encoding, step=6, is_bigendian=0, data=bytes(bytes_of_data)
    )


def fault_of(message: SimpleNamespace) -> Fault:
    with pytest.raises(Fault) as caught:
        image_to_rgb(message, through_cv_bridge)
    return caught.value


def test_a_missing_cv_bridge_names_the_apt_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    fault = fault_of(image("nv12"))
    assert fault.reason == "unsupported_encoding"
    assert "'nv12'" in str(fault) and "ros-kilted-cv-bridge" in str(fault)


def test_other_encodings_go_through_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    class BridgeError(TypeError):
        pass

    class Bridge:
        def imgmsg_to_cv2(self, msg: Any, encoding: str) -> np.ndarray:
            if msg.encoding != "nv12":
                raise BridgeError("no")
            assert encoding == "rgb8"
            return np.full((msg.height, msg.width, 3), 9, np.uint8)

    fake = ModuleType("cv_bridge")
    fake.__dict__.update(CvBridge=Bridge, CvBridgeError=BridgeError)
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    assert (image_to_rgb(image("nv12"), through_cv_bridge) == 9).all()
    fault = fault_of(image("nonsense"))
    assert fault.reason == "unsupported_encoding"
    assert fault_of(image("nv12", bytes_of_data=5)).reason == "bad_image"
