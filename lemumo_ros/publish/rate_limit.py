"""At most so many events per second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class RateLimit:
    """Passes at most so many events per second.

    Args:
        clock: returns the time, s, of a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last_s = -math.inf

    def passes(self, rate_hz: float) -> bool:
        """Return whether an event may happen now, and count it if so; a rate of 0 passes none."""
        now_s = self._clock()
        if rate_hz <= 0 or now_s - self._last_s < 1.0 / rate_hz:
            return False
        self._last_s = now_s
        return True
