"""Stamps as people read them."""

from __future__ import annotations

from lemumo_core.messages.stamps import describe_clock_offset, utc


def test_stamps_are_dates_or_seconds_since_power_on() -> None:
    assert utc(1_600_000_000_250_000_000) == "2020-09-13 12:26:40.250 UTC"
    assert utc(83_500_000_000) == "83.500 s"


def test_offsets_of_clocks_are_said_in_fitting_units_with_the_cure_to_type() -> None:
    tai = describe_clock_offset("lidar", 37_000_000_000)
    assert "37.0 s ahead of" in tai and tai.endswith("companion_offset to 37.000")
    power_on = describe_clock_offset("lidar", -1_600_000_000_000_000_000)
    assert "50.7 years behind" in power_on
    assert power_on.endswith("companion_offset to -1600000000.000")
