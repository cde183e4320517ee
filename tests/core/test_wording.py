"""Changes and counts as text."""

from __future__ import annotations

import pytest

from lemumo_core.wording import count_of, signed


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


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("shard",), "0 shards"),
        (1, ("shard",), "1 shard"),
        (2, ("shard",), "2 shards"),
        (1, ("frame was", "frames were"), "1 frame was"),
        (12, ("class", "classes"), "12 classes"),
    ],
)
def test_one_is_singular(number: int, words: tuple[str, ...], text: str) -> None:
    assert count_of(number, *words) == text
