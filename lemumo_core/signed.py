"""Changes as text: numbers with a sign."""

from __future__ import annotations


def signed(change: float, form: str) -> str:
    """Return a change as text with its sign; what rounds to zero has none.

    Args:
        change: from before to after.
        form: of ``format``, without a sign, such as ``.0%``.
    """
    text = format(change, f"+{form}")
    return text if text.strip("+-0.%") else text[1:]
