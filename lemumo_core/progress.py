"""One progress line for work that takes time."""

from __future__ import annotations

import sys
import time

INTERVAL_S = 0.5


class Progress:
    """Prints ``label  done/total  rate  ETA``: in place on a terminal, a line now and then else."""

    def __init__(self, label: str, total: int):
        self.label, self.total = label, total
        self._started = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._interval = INTERVAL_S if self._terminal else 10 * INTERVAL_S

    def update(self, done: int) -> None:
        """Show how far the work is, at most twice a second."""
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._print(done, now)

    def finish(self) -> None:
        """End the line."""
        if self._terminal:
            print(file=sys.stderr)

    def _print(self, done: int, now: float) -> None:
        rate = done / max(now - self._started, 1e-9)
        eta = f"{(self.total - done) / rate:.0f} s" if rate > 0 else "?"
        line = f"{self.label}  {done}/{self.total}  {rate:.1f}/s  ETA {eta}"
        print(
            f"\r{line}\033[K" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
