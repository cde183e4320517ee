"""Whose frame is next, and the parameters of several cameras, without DDS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

from lemumo_core.geometry.camera import Camera
from lemumo_core.streaming import companions
from lemumo_core.streaming.cameras import Cameras
from lemumo_ros.parameters import CameraParameters, Parameters
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.rig import cloud

MS = 1_000_000
NAMES = ("front", "left", "rear")
IDENTITY = tuple(np.eye(4).ravel().tolist())


class Clock:
    """A clock that the test sets."""

    now_ms = 0.0

    def __call__(self) -> int:
        return int(self.now_ms * MS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cameras(clock) -> Cameras:
    own = CameraParameters(extrinsics=IDENTITY)
    settings = Parameters(
        cameras=NAMES, by_camera=dict.fromkeys(NAMES, own), companion_deadline_ms=50.0
    )
    return Cameras(settings.camera_options(), "lidar", clock, clock)


def send_image(cameras: Cameras, clock: Clock, name: str, pixels: np.ndarray | None = None) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8) if pixels is None else pixels
    header = build.header(clock(), name)
    cameras.inputs[name].on_image(build.image(pixels, "rgb8", header))


def served(cameras: Cameras, most: int = 3) -> list[str]:
    return [due.camera.camera_name for due in cameras.take(most)]


def test_cameras_are_served_in_turn_however_fast_each_is(cameras, clock) -> None:
    """One inference at a time, twice as long as the others' period: none starves."""
    counts = dict.fromkeys(NAMES, 0)
    for step in range(300):
        clock.now_ms = 100.0 + 10 * step
        send_image(cameras, clock, "front")  # ten times as often as the others
        if step % 10 == 0:
            send_image(cameras, clock, "left")
            send_image(cameras, clock, "rear")
        if step % 2:
            for name in served(cameras, most=1):
                counts[name] += 1
    assert counts["left"] >= 29 and counts["rear"] >= 29
    assert counts["front"] >= 80
    inputs = cameras.inputs
    for name, count in counts.items():
        health = inputs[name].health
        waiting = len(inputs[name].matcher._images) + (name in cameras._mailbox)
        assert health.received["image"] == count + health.drops["busy"] + waiting


def test_a_silent_camera_is_not_waited_for(cameras, clock) -> None:
    send_image(cameras, clock, "front")
    send_image(cameras, clock, "rear")
    assert served(cameras) == []  # the LiDAR may yet come
    clock.now_ms = 50.0
    assert served(cameras) == ["front", "rear"]
    assert served(cameras) == []


def test_the_newest_frame_replaces_the_one_that_waits_and_keeps_its_place(cameras, clock) -> None:
    for step, names in enumerate([("front", "left"), ("front",)]):
        clock.now_ms = 100.0 * step
        for name in names:
            send_image(cameras, clock, name)
        clock.now_ms += 50.0
        assert served(cameras, most=0) == []
    first, second = cameras.take(2)
    assert (first.camera.camera_name, second.camera.camera_name) == ("front", "left")
    assert first.pair.image.stamp_ns == 100 * MS
    assert cameras.inputs["front"].health.drops == {"busy": 1}


def test_one_point_cloud_is_converted_once_for_all_cameras(cameras, clock, monkeypatch) -> None:
    converted = []

    def convert(message):
        converted.append(message)
        return np.zeros((5, 3), np.float32)

    monkeypatch.setattr(companions, "points_to_array", convert)
    points = cloud(np.ones((5, 3)))
    cameras.on_points(points)
    camera = Camera(16, 8, 10.0, 10.0, 7.5, 3.5)
    for name in NAMES:
        info = build.camera_info(camera, build.header(0, name))
        cameras.inputs[name].on_camera_info(info)
        send_image(cameras, clock, name)
    frames = [due.camera.to_frame(due.pair) for due in cameras.take(3)]
    assert [frame.camera_name for frame in frames] == list(NAMES)
    assert converted == [points]
    assert all(frame.companion.points is frames[0].companion.points for frame in frames)


def test_what_came_before_activation_is_forgotten(cameras, clock) -> None:
    send_image(cameras, clock, "front")
    cameras.clear()
    clock.now_ms = 500.0
    assert served(cameras) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cameras": ("a", "a")}, "'a' must be one word"),
        ({"cameras": ("a/b",)}, "'a/b' must be one word"),
        ({"cameras": ("a",), "extrinsics": IDENTITY}, "must name its camera"),
        ({"score_threshold": float("nan")}, "score_threshold is nan, must be from 0.0 to 1.0"),
        ({"max_age_ms": -1.0}, "max_age_ms is -1.0"),
        ({"image_transport": "h264"}, "image_transport is 'h264'"),
        ({"extrinsics": (1.0, 2.0)}, "must be 16 numbers by row"),
        ({"extrinsics": (0.0,) * 16}, "not a rotation"),
        ({"thermal_window": (0.1, 0.1, 0.5)}, "must be left, top"),
        ({"thermal_window": (0.1, 0.1, 0.5, 0.0)}, "above 0"),
    ],
)
def test_parameters_that_make_no_sense_are_named(values, words) -> None:
    with pytest.raises(ValueError, match=words):
        Parameters(**values)


def test_an_info_that_changes_counts_from_the_next_frame_on(cameras, clock) -> None:
    front = cameras.inputs["front"]
    for width, fx in ((16, 10.0), (16, 12.0), (32, 20.0)):
        camera = Camera(width, 8, fx, fx, 7.5, 3.5)
        front.on_camera_info(build.camera_info(camera, build.header(0, "front")))
        clock.now_ms += 100.0
        send_image(cameras, clock, "front", np.zeros((8, width, 3), np.uint8))
        clock.now_ms += 50.0
        (due,) = cameras.take(1)
        assert front.to_frame(due.pair).camera == camera


def test_an_uncalibrated_thermal_image_covers_its_window(clock) -> None:
    """FLIR ADAS: each corner of the thermal image lies where the window says."""
    window = 0.25, 0.125, 0.5, 0.75
    own = CameraParameters(thermal_window=window)
    settings = Parameters(cameras=("front",), by_camera={"front": own})
    front = Cameras(settings.camera_options(), "thermal", clock, clock).inputs["front"]
    camera = Camera(160, 80, 100.0, 100.0, 70.0, 45.0)
    header = build.header(0, "front")
    front.on_camera_info(build.camera_info(camera, header))
    front.on_companion(build.image(np.zeros((30, 40), np.uint8), "mono8", header))
    front.on_image(build.image(np.zeros((80, 160, 3), np.uint8), "rgb8", header))
    (pair,) = front.take(flush=True)
    thermal = front.to_frame(pair).companion
    assert thermal.image.shape == (30, 40) and (thermal.T_camera_thermal == np.eye(4)).all()
    corners = np.array([[-0.5, -0.5], [39.5, 29.5]])
    uv, _ = camera.project(thermal.camera.unproject(corners))
    np.testing.assert_allclose(uv, [[39.5, 9.5], [119.5, 69.5]], atol=1e-6)
