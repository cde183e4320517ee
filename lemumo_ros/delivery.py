"""Until when the messages that arrived have been handed to the node's callbacks."""

from __future__ import annotations

import time
from typing import Any


class DeliveryClock:
    """Steady clock that lags behind by what waits in the queue of a node's executor.

    On a busy machine an executor may be late by more than the time that an image waits for its
    companion, which then counts as missing though it arrived long ago. By this clock, time has
    passed for the callbacks as soon as all that arrived until then has been handed to them.

    Args:
        node: rclpy node. Where no executor spins it, nothing waits.
    """

    def __init__(self, node: Any):
        self._node = node
        self._reached_ns = 0
        self._is_asked = False

    def __call__(self) -> int:
        """Return the time, ns, that was reached when last asked for, and ask the executor again."""
        executor = self._node.executor
        if executor is None:
            return time.monotonic_ns()
        if not self._is_asked:
            self._is_asked = True
            # In turn behind what waits. Twice: rclpy's own executors run what they are asked for
            # before they look for messages, and only then.
            executor.create_task(executor.create_task, self._reach, time.monotonic_ns())
        return self._reached_ns

    def _reach(self, asked_ns: int) -> None:
        self._reached_ns, self._is_asked = asked_ns, False
