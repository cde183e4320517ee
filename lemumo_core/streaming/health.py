"""Health of one camera: counts of messages, results and drops by reason, rates and latencies.

The clock is passed in, so nothing here depends on real time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from enum import IntEnum
from statistics import median_low

import numpy as np

from lemumo_core.frame import Perception
from lemumo_core.messages.stamps import describe_clock_offset
from lemumo_core.streaming.sync import MAX_LAG_NS

LATENCY_WINDOW = 1000
ARRIVALS = 21
"""Number of newest messages over which rate, age and jitter of an input are computed."""
STALE_PERIODS = 2.5
"""Periods without a message after which an input is stale; checked every half period, this is
reported within 3."""
MIN_PERIOD_NS = 20_000_000
"""Least period assumed, because messages of a burst arrive with almost none between them."""
RECENT_NS = 5_000_000_000
"""Time for which a fault or a missing companion is reported after it last happened."""
ERROR_AFTER_NS = 1_000_000_000


class Level(IntEnum):
    """Values of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


class Arrivals:
    """Arrival times of the messages of one input, and their ages by their stamps."""

    def __init__(self) -> None:
        self._times_ns: deque[int] = deque(maxlen=ARRIVALS)
        self._ages_ns: deque[int] = deque(maxlen=ARRIVALS)
        self._lags_ns: deque[int] = deque(maxlen=ARRIVALS)

    def add(self, now_ns: int, age_ns: int | None, stamp_ns: int) -> None:
        """Count one message: arrival on the steady clock, age on the clock of the stamps."""
        self._times_ns.append(now_ns)
        self._lags_ns.append(stamp_ns - now_ns)
        if age_ns is not None:
            self._ages_ns.append(age_ns)

    @property
    def lag_ns(self) -> int:
        """Median of the newest stamps less their times of arrival."""
        return median_low(self._lags_ns)

    def is_stale(self, now_ns: int) -> bool:
        """Return whether more than ``STALE_PERIODS`` have passed since the newest message."""
        periods = np.diff(self._times_ns)
        if not len(periods):
            return now_ns - self._times_ns[-1] > RECENT_NS
        period_ns = max(float(np.median(periods)), MIN_PERIOD_NS)
        return now_ns - self._times_ns[-1] > STALE_PERIODS * period_ns

    def since_ns(self, now_ns: int) -> int:
        """Return the time since the newest message, ns."""
        return now_ns - self._times_ns[-1]

    def values(self, now_ns: int) -> dict[str, float]:
        """Return rate_hz, jitter_ms, age_ms and silent_ms, as far as they are known.

        Jitter is the standard deviation of the periods, age the median of the ages (about the
        clocks' offset, where they are not synchronised), silent_ms the time since the newest
        message.
        """
        periods_ms = np.diff(self._times_ns) / 1e6
        values = {"silent_ms": self.since_ns(now_ns) / 1e6}
        if len(periods_ms) and periods_ms.sum() > 0:
            values["rate_hz"] = 1e3 / float(periods_ms.mean())
            values["jitter_ms"] = float(periods_ms.std())
        if self._ages_ns:
            values["age_ms"] = float(np.median(self._ages_ns)) / 1e6
        return values


class Health:
    """Thread-safe counters of what happens to the messages of one camera.

    Args:
        clock: returns the time, ns, of any steady clock.
        companion: sensor whose absence is worth a warning, or None.
        stamp_clock: returns the time, ns, of the clock of the messages' stamps; None where the
            stamps are of another time, as in a replay.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        companion: str | None = None,
        stamp_clock: Callable[[], int] | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._stamp_clock = stamp_clock
        self._began_ns = clock()
        self._companion = companion
        self.received: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.modalities: Counter[str] = Counter()
        self.frames_out = 0
        self.companion_offset_ns = 0
        self.lidars: tuple[str, ...] = ()
        self._empty_view, self._is_blank = "", False
        self.last_fault = ""
        self._arrivals: dict[str, Arrivals] = defaultdict(Arrivals)
        self._fault_ns: int | None = None
        self._out_ns: int | None = None
        self._camera_only_ns: int | None = None
        self._latency_ms: dict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=LATENCY_WINDOW)
        )

    def stamp_clock_ns(self) -> int | None:
        """Return the time, ns, of the clock of the messages' stamps, where it is known."""
        return None if self._stamp_clock is None else self._stamp_clock()

    def count_in(self, sensor: str, stamp_ns: int) -> None:
        """Count one message of a sensor."""
        now_ns = self.stamp_clock_ns()
        age_ns = None if now_ns is None else now_ns - stamp_ns
        with self._lock:
            self.received[sensor] += 1
            self._arrivals[sensor].add(self._clock(), age_ns, stamp_ns)

    def count_drop(self, reason: str, number: int = 1, message: str = "") -> None:
        """Count inputs that were not used, by reason; with a message it is a fault."""
        if number:
            with self._lock:
                self.drops[reason] += number
                if message:
                    self.last_fault, self._fault_ns = message, self._clock()

    def count_out(
        self,
        perception: Perception,
        timings_ms: dict[str, float],
        empty_view: str = "",
        is_blank: bool = False,
    ) -> None:
        """Count one published result.

        Args:
            perception: the result.
            timings_ms: by stage.
            empty_view: why no LiDAR return was in view; empty where there were some.
            is_blank: whether images have been of one colour for some results.
        """
        with self._lock:
            self._empty_view, self._is_blank = empty_view, is_blank
            self.frames_out += 1
            self._out_ns = self._clock()
            self.modalities["+".join(perception.modalities)] += 1
            if self._companion is not None and self._companion not in perception.modalities:
                self._camera_only_ns = self._out_ns
            for stage, value in timings_ms.items():
                self._latency_ms[stage].append(value)

    def other_clock_ns(self) -> int | None:
        """Return by how much the companion's stamps are ahead of the images' (median), ns.

        None where they are of one clock, the companion's offset allowed for, or not both known.
        """
        with self._lock:
            return self._other_clock_ns()

    def _other_clock_ns(self) -> int | None:
        sensors = {"image", str(self._companion)}
        if self._companion is None or not sensors <= self._arrivals.keys():
            return None
        ahead_ns = self._arrivals[self._companion].lag_ns - self._arrivals["image"].lag_ns
        return ahead_ns if abs(ahead_ns - self.companion_offset_ns) > MAX_LAG_NS else None

    def since_image_ns(self) -> int:
        """Return the time since the newest image, or since creation where none came, ns."""
        with self._lock:
            now_ns = self._clock()
            if "image" in self._arrivals:
                return self._arrivals["image"].since_ns(now_ns)
            return now_ns - self._began_ns

    def verdict(self) -> tuple[Level, str]:
        """Return the level of this camera's status and its reason.

        STALE: no image for ``STALE_PERIODS`` of its periods. ERROR: for ``ERROR_AFTER_NS`` every
        image was dropped for a fault. WARN: no image or no result yet, or in the last
        ``RECENT_NS`` a fault, or a result without its companion; images that show nothing, or one
        of several LiDARs that is silent. OK: none of these.
        """
        with self._lock:
            now_ns = self._clock()
            if "image" not in self._arrivals:
                return Level.WARN, "no image has arrived"
            image = self._arrivals["image"]
            if image.is_stale(now_ns):
                return Level.STALE, f"no image for {image.since_ns(now_ns) / 1e9:.1f} s"
            if self._fault_ns is not None and now_ns - self._fault_ns < RECENT_NS:
                # Without a result since then, after a while this is more than a bad frame.
                since_result_ns = now_ns - (self._out_ns or 0)
                failing = self._fault_ns > (self._out_ns or 0) and since_result_ns > ERROR_AFTER_NS
                return (Level.ERROR if failing else Level.WARN), self.last_fault
            if self._out_ns is None:
                if self.drops["unwatched"]:
                    return Level.OK, "nobody listens to the outputs"
                return Level.WARN, "waiting for the first result"
            if self._camera_only_ns is not None and now_ns - self._camera_only_ns < RECENT_NS:
                return Level.WARN, f"degraded to camera-only: {self._companion_state(now_ns)}"
            if self._is_blank:
                return Level.WARN, "images are of one colour: the lens is covered, or it is dark"
            if silent := self._silent_lidars(now_ns):
                return Level.WARN, f"points of {', '.join(silent)} are missing"
            return Level.OK, "running"

    def _silent_lidars(self, now_ns: int) -> list[str]:
        """Return the names of the LiDARs that send nothing, where there are several."""
        heard = self._arrivals
        return [n for n in self.lidars if n not in heard or heard[n].is_stale(now_ns)]

    def _companion_state(self, now_ns: int) -> str:
        sensor = str(self._companion)
        if sensor not in self._arrivals:
            return f"no {sensor} has arrived"
        companion = self._arrivals[sensor]
        if companion.is_stale(now_ns):
            return f"no {sensor} for {companion.since_ns(now_ns) / 1e9:.1f} s"
        if self._empty_view:
            return self._empty_view
        if (ahead_ns := self._other_clock_ns()) is not None:
            return describe_clock_offset(sensor, ahead_ns)
        return f"{sensor} arrives, but late or not near the images' stamps"

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Return p50 and p99 by stage over the last ``LATENCY_WINDOW`` results."""
        with self._lock:
            windows = {stage: list(values) for stage, values in self._latency_ms.items()}
        return {
            stage: {f"p{q}": float(np.percentile(values, q)) for q in (50, 99)}
            for stage, values in windows.items()
        }

    def values(self) -> dict[str, str]:
        """Return everything as key and value texts, as in diagnostic_msgs/KeyValue."""
        latency = self.latency_ms()
        with self._lock:
            now_ns = self._clock()
            values = {
                "frames_in": str(self.received["image"]),
                "frames_out": str(self.frames_out),
                "last_fault": self.last_fault,
            }
            values |= {f"received/{k}": str(v) for k, v in sorted(self.received.items())}
            for sensor, arrivals in sorted(self._arrivals.items()):
                for name, value in arrivals.values(now_ns).items():
                    values[f"{name}/{sensor}"] = f"{value:.3f}"
            values |= {f"drops/{k}": str(v) for k, v in sorted(self.drops.items())}
            for name, number in sorted(self.modalities.items()):
                values[f"modalities/{name}"] = str(number)
                values[f"modality_share/{name}"] = f"{number / self.frames_out:.4f}"
            if self.received["image"]:
                missed = self.drops["busy"] / self.received["image"]
                values["deadline_miss_rate"] = f"{missed:.4f}"
        for stage, percentiles in latency.items():
            values |= {f"latency_ms/{stage}/{p}": f"{v:.3f}" for p, v in percentiles.items()}
        return values
