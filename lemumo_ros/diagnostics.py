"""What came in, what went out, what was dropped and why, and how long it took."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from typing import Any

import numpy as np

from lemumo_core.frame import Perception

LATENCY_WINDOW = 1000


class Health:
    """Thread-safe counters of one camera's way through the node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.received: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.modalities: Counter[str] = Counter()
        self.frames_out = 0
        self.last_fault = ""
        self._latency_ms: dict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=LATENCY_WINDOW)
        )

    def count_in(self, sensor: str) -> None:
        """One message of a sensor arrived."""
        with self._lock:
            self.received[sensor] += 1

    def count_drop(self, reason: str, number: int = 1, message: str = "") -> None:
        """Some input was not used, for this reason."""
        if number:
            with self._lock:
                self.drops[reason] += number
                self.last_fault = message or self.last_fault

    def count_out(self, perception: Perception, timings_ms: dict[str, float]) -> None:
        """One result went out."""
        with self._lock:
            self.frames_out += 1
            self.modalities["+".join(perception.modalities)] += 1
            for stage, value in timings_ms.items():
                self._latency_ms[stage].append(value)

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """p50 and p99 by stage over the last ``LATENCY_WINDOW`` results."""
        with self._lock:
            windows = {stage: list(values) for stage, values in self._latency_ms.items()}
        return {
            stage: {f"p{q}": float(np.percentile(values, q)) for q in (50, 99)}
            for stage, values in windows.items()
        }

    def values(self) -> dict[str, str]:
        """All of it as flat key and value texts, as diagnostic_msgs wants them."""
        latency = self.latency_ms()
        with self._lock:
            values = {
                "frames_in": str(self.received["image"]),
                "frames_out": str(self.frames_out),
                "last_fault": self.last_fault,
            }
            values |= {f"received/{k}": str(v) for k, v in sorted(self.received.items())}
            values |= {f"drops/{k}": str(v) for k, v in sorted(self.drops.items())}
            values |= {f"modalities/{k}": str(v) for k, v in sorted(self.modalities.items())}
        for stage, percentiles in latency.items():
            values |= {f"latency_ms/{stage}/{p}": f"{v:.3f}" for p, v in percentiles.items()}
        return values


def diagnostic_array(camera_name: str, facts: dict[str, str], health: Health, stamp: Any) -> Any:
    """A DiagnosticArray with one status, WARN while nothing has come out or the last input failed.

    Args:
        camera_name: part of the status' name.
        facts: what does not change, such as model and backend.
        health: the counters.
        stamp: builtin_interfaces Time.
    """
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    status = DiagnosticStatus(name=f"lemumo: {camera_name}", hardware_id=facts.get("model", ""))
    if not health.received["image"]:
        status.level, status.message = DiagnosticStatus.WARN, "no image has arrived"
    elif not health.frames_out:
        status.level = DiagnosticStatus.WARN
        status.message = health.last_fault or "waiting for the first result"
    else:
        status.level, status.message = DiagnosticStatus.OK, "running"
    values = facts | health.values()
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array
