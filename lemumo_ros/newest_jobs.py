"""A thread for what may come late and may be left out: of each kind, the newest job is done."""

from __future__ import annotations

import threading
from collections.abc import Callable


class NewestJobs:
    """Does jobs in a thread; one that still waits when a newer one of its kind comes is left out.

    Args:
        name: of the thread.
        failed: called in the thread with whatever a job raises.
    """

    def __init__(self, name: str, failed: Callable[[Exception], None]):
        self._name, self._failed = name, failed
        self._waiting: dict[str, Callable[[], None]] = {}  # by kind, the longest waiting first
        self._changed = threading.Condition()
        self._running = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._running = True
        self._thread = threading.Thread(target=self._run, name=self._name)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the jobs that wait. Safe in any state."""
        with self._changed:
            self._running = False
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def submit(self, kind: str, job: Callable[[], None]) -> None:
        """Let a job be done, in place of one of its kind that waits."""
        with self._changed:
            self._waiting[kind] = job
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._running)
                if not self._waiting:
                    return
                job = self._waiting.pop(next(iter(self._waiting)))
            try:
                job()
            except Exception as error:  # the thread must outlive a bug, which is named
                self._failed(error)
