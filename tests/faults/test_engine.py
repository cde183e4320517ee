"""A slow or failing engine: rows 13 and 14 of the fault table."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.streaming.health import Level
from tests.helpers.rig import PERIOD_S, Rig

pytestmark = pytest.mark.ros
SLOW_S = 10 * PERIOD_S
STOPS = 6


@pytest.fixture(scope="module")
def rig(launch_faulty) -> Rig:
    rig = launch_faulty()
    rig.connect()
    rig.run_until(rig.results)
    return rig


@pytest.fixture(autouse=True)
def recovers(rig: Rig, fault: Path):
    yield
    fault.write_text("")
    since_ns = rig.now_ns()
    rig.run_until(lambda: rig.results(since_ns))


@pytest.mark.fault(14)
def test_a_runtime_that_fails_once_costs_no_frame(rig, fault, seen) -> None:
    before = rig.drops("engine_failed")
    fault.write_text("raise once")
    rig.run_until(lambda: "OUT_OF_MEMORY" in rig.status("engine")[1])
    assert rig.status("engine")[0] == Level.WARN and "loaded again" in rig.status("engine")[1]
    assert rig.drops("engine_failed") == before
    seen("out of memory once: loaded again, no frame lost, WARN")


@pytest.mark.fault(14)
def test_a_runtime_that_fails_for_good_is_a_fault_until_it_runs_again(rig, fault, seen) -> None:
    fault.write_text("raise")
    rig.run_until(lambda: rig.status()[0] == Level.ERROR)
    assert "the engine does not run" in rig.status()[1]
    since_ns = rig.now_ns()
    rig.run(0.5)
    assert not rig.results(since_ns)
    fault.write_text("")
    since_ns = rig.now_ns()
    took_s = rig.run_until(lambda: rig.results(since_ns))
    seen(f"no runtime runs: no results, ERROR; {took_s:.2f} s after it runs again a result")


@pytest.mark.fault(14)
def test_outputs_that_are_not_finite_are_never_published(rig, fault, seen) -> None:
    before = rig.drops("bad_output")
    fault.write_text("nan")
    rig.run_until(lambda: rig.drops("bad_output") > before)
    since_ns = rig.now_ns()
    rig.run(0.5)
    assert not rig.results(since_ns)
    seen("NaN in an output: frame dropped as bad_output")


@pytest.mark.fault(13)
def test_inference_ten_times_slower_than_the_input(rig, fault, seen) -> None:
    fault.write_text(f"sleep {SLOW_S}")
    rig.run(2 * SLOW_S)
    since_ns, count, ages_s = rig.now_ns(), 0, []

    def wait() -> bool:
        nonlocal count
        results = rig.results(since_ns)
        if len(results) > count:
            count = len(results)
            ages_s.append((rig.now_ns() - stamp_to_ns(results[-1].header.stamp)) / 1e9)
        return len(ages_s) >= 6

    rig.run_until(wait)
    stamps_s = [stamp_to_ns(m.header.stamp) / 1e9 for m in rig.results(since_ns)]
    # A queue would answer one image after the other, the newest of each inference skips the rest.
    assert np.median(np.diff(stamps_s)) > SLOW_S / 2, stamps_s
    rig.run_until(lambda: float(rig.under_test.values["deadline_miss_rate"]) > 0)
    assert rig.drops("busy") > 0
    slow_ms, period_ms, *latency_ms = 1e3 * np.array(
        [SLOW_S, PERIOD_S, np.median(ages_s), max(ages_s)]
    )
    seen(
        f"{slow_ms:.0f} ms an inference, an image every {period_ms:.0f} ms: latency p50 "
        f"{latency_ms[0]:.0f} ms, at most {latency_ms[1]:.0f} ms; the rest counted"
    )


@pytest.mark.fault(13)
def test_a_process_that_gets_no_time_goes_on_with_the_newest_frame(rig, seen) -> None:
    process = rig.under_test.process
    process.send_signal(signal.SIGSTOP)
    rig.run(1.0)
    process.send_signal(signal.SIGCONT)
    since_ns = rig.now_ns()
    took_ms = 1e3 * rig.run_until(lambda: rig.results(since_ns))
    seen(f"stopped for 1 s: the newest frame answered {took_ms:.0f} ms after it goes on")


@pytest.mark.fault(13)
def test_a_scan_that_came_while_the_process_got_no_time_is_fused(rig, seen) -> None:
    """Its image came before; when the process goes on, its deadline is long past."""
    node = rig.under_test

    def counts() -> np.ndarray:
        keys = ("frames_out", "modalities/camera+lidar")
        return np.array([int(node.values[key]) for key in keys])

    node.spin(1.2)  # the counts come every second
    before = counts()
    for _ in range(STOPS):
        messages = rig.messages()
        for name in ("camera_info", "image"):
            rig.publishers[name].publish(messages[name])
        time.sleep(PERIOD_S)  # the image has most likely been taken; if not, it waits as well
        node.process.send_signal(signal.SIGSTOP)
        rig.publishers["points"].publish(messages["points"])
        time.sleep(0.3)
        node.process.send_signal(signal.SIGCONT)
        before_ns = stamp_to_ns(messages["image"].header.stamp) - 1
        node.spin_until(lambda since_ns=before_ns: rig.results(since_ns))
    node.spin_until(lambda: counts()[0] == before[0] + STOPS)
    fused = counts()[1] - before[1]
    assert fused > STOPS / 2  # what DDS itself has not read by then is not waited for
    seen(f"stopped for 0.3 s between an image and its scan: {fused} of {STOPS} fused")


@pytest.mark.fault(18)
def test_ten_times_the_input_rate_for_a_while(rig, seen, monkeypatch) -> None:
    """A soak of seconds; ``make soak`` is the one of minutes."""
    monkeypatch.setattr("tests.helpers.rig.PERIOD_S", PERIOD_S / 10)
    rig.run(3.0)
    before_mb = float(rig.under_test.values["memory_mb"])
    rig.run(6.0)
    newest_ns = rig.last_ns
    rig.run_until(lambda: rig.results(newest_ns))
    rig.under_test.spin(1.2)
    grown_mb = float(rig.under_test.values["memory_mb"]) - before_mb
    assert grown_mb < 20, rig.under_test.values
    seen(f"images at {10 / PERIOD_S:.0f} Hz for 6 s: {grown_mb:+.1f} MB, newest frame served")
