"""Ending in time: a signal ends what is being done, or asks a training step to be the last."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from types import FrameType

REQUEUE = 85
"""Exit code of a command that was stopped and that goes on when it is started again."""
SIGNALLED = 128
"""Exit code of a command that a signal ended, less the signal's number."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A signal that asked to stop, raised where it found the main thread.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")


class StopRequest:
    """The signal that asked to stop, or None, and whether it waits to be looked at."""

    signal: signal.Signals | None = None
    _deferred = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Take note of signals in the block, which looks at the request between its steps.

        A second Ctrl-C interrupts as ever.
        """
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise ``Stopped`` in the block, also where signals are deferred around it.

        Raises:
            Stopped: at once where a signal has come before.
        """
        before, self._deferred = self._deferred, False
        try:
            if self.signal is not None:
                raise Stopped(self.signal)
            yield
        finally:
            self._deferred = before

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        if not self._deferred:
            raise Stopped(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Raise ``Stopped`` at SIGTERM, SIGUSR1 (of SLURM, before its time limit) and Ctrl-C.

    In another thread than the main one, which alone gets signals, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_parent() -> None:
    """Ignore, in a worker process, the signals that also reach its parent, and end with it.

    The parent ends its workers by ``Process.kill``. Where it dies without doing so, they end too.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
