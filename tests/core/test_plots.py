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
