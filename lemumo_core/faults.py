"""The one error for input that cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_MESSAGE = 2000
"""Characters; names inside messages may be as long as their sender likes, logs may not."""


class Fault(ValueError):
    """Bad input, named: the frame or message that caused it is dropped and counted.

    Args:
        reason: short snake_case name; drops are counted under it in diagnostics and summaries.
        message: what is wrong, with the offending values, and what to do about it.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message[:MAX_MESSAGE])
        self.reason = reason

    def __reduce__(self) -> tuple[type[Fault], tuple[str, str]]:
        return type(self), (self.reason, str(self))  # pickle would call it with the message alone


def known_names(name: str, names: Iterable[str]) -> str:
    """Finish a message about an unknown name: with the likely one and all there are."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f"{guess} (known: {', '.join(known)})"
