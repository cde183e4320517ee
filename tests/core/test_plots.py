"""Plots as SVG: what their axes say."""

from __future__ import annotations

import re

import pytest

from lemumo_core import plots


@pytest.mark.parametrize(
    ("most", "shown"),
    [(3774.0, ["0", "1000", "2000", "3000"]), (0.3, ["0", "0.1", "0.2", "0.3"])],
)
def test_ticks_are_round_numbers_written_out(most, shown) -> None:
    picture = plots.lines("time", [0.0, 1.0], {"infer": [0.0, most]}, "result")
    beside = re.findall(r'text-anchor="end"[^>]*>([^<]+)<', picture)
    assert beside == shown


def test_a_single_value_is_in_the_middle_above_its_own_tick() -> None:
    picture = plots.lines("depth", [12.0], {"": [4.2]}, "step")
    ticks = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle"[^>]*>([\d.]+)<', picture)
    assert ticks == [(re.search(r'cx="([\d.]+)"', picture)[1], "12")]


@pytest.mark.parametrize("count", [5, 500])
def test_values_between_gaps_are_dots(count) -> None:
    """A line needs two of them: of a series of every fourth image nothing else would be seen."""
    gap = float("nan")
    values = [1.0 if number % 4 == 0 else gap for number in range(count)]
    picture = plots.lines("depth", list(range(count)), {"camera only": values}, "s")
    assert picture.count("<circle") == (count + 3) // 4 and "<polyline" not in picture
    whole = plots.lines("depth", list(range(count)), {"fused": [1.0] * count}, "s")
    assert whole.count("<polyline") == 1 and whole.count("<circle") == (count if count < 120 else 0)
