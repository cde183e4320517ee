"""Stamps as people read them."""

from __future__ import annotations

from lemumo_core.messages.stamps import utc


def test_stamps_are_dates_or_seconds_since_power_on() -> None:
    assert utc(1_600_000_000_250_000_000) == "2020-09-13 12:26:40.250 UTC"
    assert utc(83_500_000_000) == "83.500 s"
