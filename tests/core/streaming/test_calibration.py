"""Which CameraInfo an image gets, by the order and the stamps of what arrives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, rotation_from_quaternion
from lemumo_core.messages.transforms import WAIT_NS
from lemumo_core.streaming.camera_input import INFO_WAIT_NS, CameraInput, CameraOptions
from lemumo_core.streaming.health import Health

MS = 1_000_000
START = 1_700_000_000_000 * MS
BUILD = RosbagsBuilder()


class Clock:
    """A steady clock that the test sets; its zero is not that of the stamps."""

    now_ms = 0.0

    def __call__(self) -> int:
        return round(self.now_ms * MS)


class Rig:
    """One camera whose messages the test sends; nothing waits for a companion."""

    def __init__(self) -> None:
        self.clock = Clock()
        options = CameraOptions(companion_deadline_ns=0)
        self.input = CameraInput("front", "lidar", options, Health(), self.clock)

    def info(self, at_ms: float, fx: float, size=(16, 8), stamp_ms: float | None = None) -> None:
        self.clock.now_ms = at_ms
        stamp_ns = START + round((at_ms if stamp_ms is None else stamp_ms) * MS)
        camera = Camera(*size, fx, fx, 7.5, 3.5)
        self.input.on_camera_info(BUILD.camera_info(camera, BUILD.header(stamp_ns, "front")))

    def image(self, at_ms: float, size=(16, 8), stamp_ms: float | None = None) -> None:
        self.clock.now_ms = at_ms
        stamp_ns = START + round((at_ms if stamp_ms is None else stamp_ms) * MS)
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        self.input.on_image(BUILD.image(pixels, "rgb8", BUILD.header(stamp_ns, "front")))

    def taken(self) -> list[float]:
        """Focal lengths of the frames that are ready."""
        return [self.input.to_frame(pair).camera.fx for pair in self.input.take()]


def test_an_info_newer_than_the_image_does_not_count():
    rig = Rig()
    rig.info(0, 10.0)
    rig.image(40, stamp_ms=5)
    rig.info(41, 20.0, stamp_ms=33)
    assert rig.taken() == [10.0]


def test_with_newer_infos_alone_the_frame_is_dropped_by_name():
    rig = Rig()
    rig.image(40, stamp_ms=5)
    (pair,) = rig.input.take()
    rig.info(41, 20.0, stamp_ms=33)
    with pytest.raises(Fault, match="only newer messages") as caught:
        rig.input.to_frame(pair)
    assert caught.value.reason == "no_camera_info"


def test_infos_that_follow_their_images_are_waited_for_but_not_for_ever():
    rig = Rig()
    rig.info(0, 9.0)
    rig.image(30)
    assert rig.taken() == [9.0]  # nothing says yet that its own one is to come
    rig.info(31, 10.0, stamp_ms=30)
    rig.image(60)
    assert rig.taken() == []
    rig.info(62, 11.0, stamp_ms=60)
    assert rig.taken() == [11.0]
    rig.image(90)  # its own one is lost
    assert rig.taken() == []
    rig.clock.now_ms += INFO_WAIT_NS / MS
    assert rig.input.take(delivered=lambda: 91 * MS) == []  # unless the process is late itself
    assert rig.taken() == [11.0]


@pytest.mark.parametrize("stamp_ms", [-START / MS, -3_600_000.0])
def test_an_info_without_a_stamp_or_of_an_hour_ago_holds(stamp_ms):
    rig = Rig()
    rig.info(0, 10.0, stamp_ms=stamp_ms)
    rig.image(30)
    assert rig.taken() == [10.0]


def test_the_same_info_again_after_the_clock_went_back_holds():
    """A bag of a few seconds played in a loop, each lap from an earlier start."""
    rig = Rig()
    for lap in range(3):
        for step in range(3):
            at_ms, stamp_ms = 7000 * lap + 2500 * step, 2500 * step - 300 * lap
            rig.info(at_ms, 10.0, stamp_ms=stamp_ms)
            rig.image(at_ms + 1, stamp_ms=stamp_ms)
            rig.clock.now_ms += 40
            assert rig.taken() == [10.0]


def test_an_info_of_another_size_than_its_image_is_named():
    """No other calibration takes its place: a lens may have zoomed since."""
    rig = Rig()
    rig.info(0, 10.0, size=(32, 16))
    rig.info(20, 20.0, size=(16, 8))
    rig.image(20)
    assert rig.taken() == [20.0]
    rig.image(60, size=(32, 16))
    (pair,) = rig.input.take()
    with pytest.raises(Fault, match="32x16, its camera_info says 16x8") as caught:
        rig.input.to_frame(pair)
    assert caught.value.reason == "camera_info_mismatch"


def test_an_image_waits_for_the_transforms_of_its_stamp_but_not_for_ever():
    rig = Rig()
    rig.info(0, 10.0)

    def gimbal(stamp_ms: float) -> None:
        """Send the tilt of the camera, which grows by a degree each 10 ms."""
        tilt = np.radians(stamp_ms / 10)
        R = rotation_from_quaternion(np.cos(tilt / 2), np.sin(tilt / 2), 0, 0)
        T_base_front = make_T(R, np.zeros(3))
        header = BUILD.header(START + round(stamp_ms * MS), "base")
        rig.input.on_transforms(BUILD.transforms({"front": T_base_front}, header), moving=True)

    def scan(stamp_ms: float) -> None:
        header = BUILD.header(START + round(stamp_ms * MS), "base")
        rig.input.on_companion(BUILD.point_cloud(np.ones((1, 3), np.float32), "xyz", header))

    for stamp_ms in (0, 20, 40):
        gimbal(stamp_ms)
    rig.image(60, stamp_ms=55)
    scan(55)
    assert rig.input.take() == []  # 15 ms ahead of the newest, so that 1.5 degrees would be lost
    rig.clock.now_ms = 80
    gimbal(60)
    (pair,) = rig.input.take()
    T_front_base = rig.input.to_frame(pair).companion.T_camera_lidar
    assert np.degrees(np.arctan2(T_front_base[1, 2], T_front_base[1, 1])) == pytest.approx(5.5)
    rig.image(100, stamp_ms=95)
    scan(95)
    rig.clock.now_ms = 100 + WAIT_NS / MS
    assert rig.input.take(delivered=lambda: 101 * MS) == []  # unless the process is late itself
    (pair,) = rig.input.take()
    with pytest.raises(Fault, match="not at it") as caught:
        rig.input.to_frame(pair)
    assert caught.value.reason == "old_transform"
