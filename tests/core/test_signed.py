"""Changes as text."""

from __future__ import annotations

import pytest

from lemumo_core.signed import signed


@pytest.mark.parametrize(
    ("change", "form", "text"),
    [
        (-0.004, ".0%", "0%"),
        (0.004, ".0%", "0%"),
        (-0.006, ".0%", "-1%"),
        (0.1, ".0%", "+10%"),
        (-0.0004, ".1%", "0.0%"),
        (-0.0, ".2f", "0.00"),
        (-0.004, ".2f", "0.00"),
        (0.25, ".2f", "+0.25"),
        (float("nan"), ".2f", "+nan"),
        (float("-inf"), ".0%", "-inf%"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(change: float, form: str, text: str) -> None:
    assert signed(change, form) == text
