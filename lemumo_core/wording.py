"""Numbers as people read them: changes with a sign, and counts with what they count."""

from __future__ import annotations


def signed(change: float, form: str) -> str:
    """Return a change as text with its sign; what rounds to zero has none.

    Args:
        change: from before to after.
        form: of ``format``, without a sign, such as ``.0%``.
    """
    text = format(change, f"+{form}")
    return text if text.strip("+-0.%") else text[1:]


def count_of(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts: "1 frame was", "2 frames were".

    Args:
        number: how many there are.
        one: words after a single one.
        many: words after any other number; by default ``one`` with an s.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"
