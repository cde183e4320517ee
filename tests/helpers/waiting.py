"""Waiting for events, never for the clock: tests must pass on a machine that does other things."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LIMIT_S = 100.0
"""How long an event may take; a test that waits longer has failed, however busy the machine."""


def wait_until(
    condition: Callable[[], Any],
    what: str = "the event",
    step: Callable[[], Any] = lambda: time.sleep(0.005),
    limit_s: float = LIMIT_S,
) -> float:
    """Call ``step`` until the condition holds; return the seconds that it took.

    The seconds are for reports. Nothing may be asserted about them.

    Raises:
        AssertionError: the condition did not hold within the limit.
    """
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s, f"{what} did not come within {limit_s:.0f} s"
        step()
    return time.monotonic() - started
