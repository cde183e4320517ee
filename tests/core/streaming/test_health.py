"""Levels and reasons of a camera's health, on a clock that the test sets."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.frame import Detections, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.streaming.health import Health, Level

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5_000 * MS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock, "lidar", stamp_clock=clock)


def result(*modalities: str) -> Perception:
    nothing = Detections(np.zeros((0, 7)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    depth = np.zeros((2, 2), np.float32)
    labels = np.zeros((2, 2), np.uint8)
    camera = Camera(2, 2, 1.0, 1.0, 0.0, 0.0)
    return Perception(0, "c", nothing, depth, depth, labels, camera, modalities)


def run(health: Health, clock: Clock, frames: int, *modalities: str, period_ms: int = 100) -> None:
    """Good images, each with its result 10 ms later."""
    for _ in range(frames):
        clock.now_ns += (period_ms - 10) * MS
        health.count_in("image", clock.now_ns - 30 * MS)
        if "lidar" in modalities:
            health.count_in("lidar", clock.now_ns - 50 * MS)
        clock.now_ns += 10 * MS
        health.count_out(result("camera", *modalities), {"total": 10.0})


def test_rate_jitter_and_age_are_those_of_the_arrivals(health, clock) -> None:
    for wait_ms in [90, 110] * 15:
        clock.now_ns += wait_ms * MS
        health.count_in("image", clock.now_ns + 5_000 * MS)
    values = health.values()
    assert float(values["rate_hz/image"]) == pytest.approx(10.0, abs=1e-3)
    assert float(values["jitter_ms/image"]) == pytest.approx(10.0, rel=0.01)
    assert float(values["age_ms/image"]) == -5_000  # the sender's clock is 5 s ahead
    clock.now_ns += 70 * MS
    assert float(health.values()["silent_ms/image"]) == 70


def test_all_is_well(health, clock) -> None:
    run(health, clock, 30, "lidar")
    assert health.verdict() == (Level.OK, "running")
    values = health.values()
    assert values["modality_share/camera+lidar"] == "1.0000"
    assert (values["frames_in"], values["frames_out"]) == ("30", "30")
    assert values["deadline_miss_rate"] == "0.0000"


@pytest.mark.parametrize("period_ms", [33, 100, 1000])
def test_silence_is_stale_within_three_periods_and_not_after_one_lost_frame(
    health, clock, period_ms
) -> None:
    run(health, clock, 30, "lidar", period_ms=period_ms)
    clock.now_ns += 2 * period_ms * MS - 10 * MS
    assert health.verdict()[0] == Level.OK
    clock.now_ns += period_ms * MS
    level, message = health.verdict()
    assert level == Level.STALE and message.startswith("no image for")
    run(health, clock, 1, "lidar", period_ms=period_ms)
    assert health.verdict()[0] == Level.OK


def test_before_anything_came(health, clock) -> None:
    assert health.verdict() == (Level.WARN, "no image has arrived")
    health.count_in("image", clock.now_ns)
    assert health.verdict() == (Level.WARN, "waiting for the first result")
    health.count_drop("unwatched")
    assert health.verdict() == (Level.OK, "nobody listens to the outputs")
    clock.now_ns += 3_000 * MS
    assert health.since_image_ns() == 3_000 * MS


def test_a_bad_frame_warns_and_nothing_but_bad_frames_is_an_error(health, clock) -> None:
    run(health, clock, 10, "lidar")
    health.count_drop("bad_image", message="broken")
    assert health.verdict() == (Level.WARN, "broken")
    for _ in range(20):
        clock.now_ns += 100 * MS
        health.count_in("image", clock.now_ns)
        health.count_drop("bad_image", message="broken")
    assert health.verdict() == (Level.ERROR, "broken")
    run(health, clock, 1, "lidar")
    assert health.verdict() == (Level.WARN, "broken")
    run(health, clock, 60, "lidar")
    assert health.verdict() == (Level.OK, "running")
    assert health.values()["drops/bad_image"] == "21"


def test_what_is_passed_over_is_no_fault(health, clock) -> None:
    run(health, clock, 10, "lidar")
    health.count_drop("busy", 5)
    assert health.verdict()[0] == Level.OK
    assert health.values()["deadline_miss_rate"] == "0.5000"


def test_without_its_companion_a_camera_is_degraded_until_it_is_back(health, clock) -> None:
    run(health, clock, 10)
    level, message = health.verdict()
    assert level == Level.WARN and message == "degraded to camera-only: no lidar has arrived"
    run(health, clock, 60, "lidar")
    assert health.verdict()[0] == Level.OK
    run(health, clock, 10)
    assert "no lidar for 1.0 s" in health.verdict()[1]


def test_a_burst_is_not_followed_by_silence(health, clock) -> None:
    for _ in range(100):
        health.count_in("image", clock.now_ns)
    health.count_out(result("camera", "lidar"), {})
    clock.now_ns += 40 * MS
    assert health.verdict()[0] == Level.OK
