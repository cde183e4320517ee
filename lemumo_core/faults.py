"""The one error for input that cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MAX_MESSAGE = 2000
"""Characters; names inside messages may be as long as their sender likes, logs may not."""
MAX_VALUE = 100
"""Characters of a value that differs."""


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


def differences(then: Any, now: Any, name: str = "") -> list[str]:
    """List where two JSON values differ, a line each that names the innermost value."""
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = [(f"{name}.{key}".strip("."), key) for key in sorted(then.keys() | now.keys())]
        return [
            line for inner, key in pairs for line in differences(then.get(key), now.get(key), inner)
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            line
            for index, pair in enumerate(zip(then, now, strict=True))
            for line in differences(*pair, f"{name}[{index}]")
        ]
    return [] if then == now else [f"{name}: {_shortened(then)} then, {_shortened(now)} now"]


def indented(lines: Iterable[str]) -> str:
    """Return lines as the indented block in the middle of a message."""
    return "".join(f"\n  {line}" for line in lines) + "\n"


def _shortened(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= MAX_VALUE else f"{words[:MAX_VALUE]}..."
