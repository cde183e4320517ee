"""One progress line for every phase that takes time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

TERMINAL_INTERVAL_S = 0.5
LOG_INTERVAL_S = 5.0
HIDDEN = False
"""Whether this process shows no progress, as a worker does, whose parent shows that of all."""
T = TypeVar("T")


class Progress:
    """Prints ``label  done/total  rate  ETA``: in place on a terminal, else a line now and then.

    As a context manager it ends its line however the phase ends.

    Args:
        label: name of the phase.
        total: number of items.
        done: items that were done before; the rate does not count them.
        stream: to print to; by default standard error.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        label: str,
        total: int,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.label, self.total, self.done = label, total, done
        self._first, self._shown = done, done
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = self._last = clock()
        self._terminal = self._stream.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the phase began."""
        return self._clock() - self._started

    @property
    def new(self) -> int:
        """Items done since the phase began."""
        return self.done - self._first

    def advance(self, count: int = 1) -> None:
        """Count items that are done."""
        self.update(self.done + count)

    def update(self, done: int) -> None:
        """Set the number of items that are done; it is shown when the last line is old enough."""
        self.done = done
        now = self._clock()
        if now - self._last >= self._interval_s:
            self._last = now
            self._print()

    def finish(self) -> None:
        """Show the last state, where a line of this phase stands, and end the line."""
        if self._shown != self._first and self._shown != self.done:
            self._print()
        if self._terminal and self._shown != self._first and not HIDDEN:
            print(file=self._stream)

    def _print(self) -> None:
        if HIDDEN:
            return
        self._shown = self.done
        rate = self.new / max(self.elapsed_s, 1e-9)
        eta = f"{(self.total - self.done) / rate:.0f} s" if rate > 0 else "?"
        line = f"{self.label}  {self.done}/{self.total}  {rate:.1f}/s  ETA {eta}"
        print(
            f"\r{line}\033[K" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=self._stream,
            flush=True,
        )


def hide_progress() -> None:
    """Show no progress of this process from now on."""
    global HIDDEN
    HIDDEN = True


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, showing how many of them are done.

    Args:
        items: what to do.
        label: name of the phase.
        total: number of items; needed where they have no length.

    Raises:
        TypeError: there is neither a length nor a total.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
