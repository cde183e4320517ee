"""A clock that jumps, stands still or is not there: row 4 of the fault table."""

from __future__ import annotations

import time

import pytest
from rosgraph_msgs.msg import Clock

from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.streaming.health import Level
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.rig import Rig

pytestmark = pytest.mark.ros
HOUR_NS = 3600 * 10**9


class SimulatedTime:
    """A clock that goes on with the steady one, unless it is paused or set."""

    def __init__(self) -> None:
        self.offset_ns, self.paused_ns = 1_000 * 10**9 - time.monotonic_ns(), None

    def __call__(self) -> int:
        return self.paused_ns or time.monotonic_ns() + self.offset_ns

    def jump(self, ns: int) -> None:
        self.offset_ns += ns


@pytest.fixture(scope="module")
def now_ns() -> SimulatedTime:
    return SimulatedTime()


@pytest.fixture(scope="module")
def rig(launch, now_ns) -> Rig:
    identity = [float(i % 5 == 0) for i in range(16)]
    rig = Rig(launch(use_sim_time="true", extrinsics=identity), now_ns=now_ns)
    rig.clock = rig.node.create_publisher(Clock, "/clock", 1)
    rig.connect()
    return rig


def tick(rig: Rig):
    """Sends /clock with every set."""
    return lambda _: rig.clock.publish(Clock(clock=build.stamp(rig.now_ns())))


def newest_is_answered(rig: Rig) -> float:
    """Until a set that is sent from now on is answered; the seconds that it took."""
    since_ns = rig.now_ns()

    def answered() -> bool:
        stamps = [stamp_to_ns(m.header.stamp) for m in rig.results()[-5:]]
        return any(since_ns <= stamp_ns < since_ns + 10**10 for stamp_ns in stamps)

    return rig.run_until(answered, tick(rig))


@pytest.mark.fault(4)
def test_without_clock_the_images_are_refused_with_the_reason(rig, seen) -> None:
    rig.run_until(lambda: rig.drops("future_stamp") and "use_sim_time" in rig.status()[1])
    assert not rig.results()
    took_s = newest_is_answered(rig)
    seen(f"use_sim_time without /clock: dropped with the reason; answered {took_s:.2f} s after it")


@pytest.mark.parametrize(("name", "ns"), [("back 100 s", -100 * 10**9), ("on 1 h", HOUR_NS)])
@pytest.mark.fault(4)
def test_clock_jumps(rig, now_ns, seen, name, ns) -> None:
    rig.run(0.3, tick(rig))
    now_ns.jump(ns)
    took_s = newest_is_answered(rig)
    latencies = [v for k, v in rig.under_test.values.items() if k.startswith("latency_ms/")]
    assert latencies and all(float(v) >= 0 for v in latencies)
    seen(f"{name}: answered again after {took_s:.2f} s, no negative latency")


@pytest.mark.fault(4)
def test_while_the_clock_stands_still_health_is_told(rig, now_ns, seen) -> None:
    rig.run(1.0, tick(rig))
    now_ns.paused_ns = now_ns()
    rig.under_test.spin_until(lambda: rig.status()[0] == Level.STALE)
    before = rig.under_test.values["silent_ms/image"]
    rig.under_test.spin_until(lambda: rig.under_test.values["silent_ms/image"] != before)
    now_ns.paused_ns = None
    took_s = newest_is_answered(rig)
    seen(
        f"/clock stands still: STALE by the steady clock; answered {took_s:.2f} s after it goes on"
    )
