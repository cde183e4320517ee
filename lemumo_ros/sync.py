"""Pairs each image with the companion message nearest to it in time. Pure: no clock of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

MAX_IMAGES = 8
MAX_COMPANIONS = 16


@dataclass(frozen=True, eq=False)
class Stamped:
    """A message with its own stamp and the time at which it came, both ns."""

    stamp_ns: int
    arrival_ns: int
    message: Any


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its companion, None where none came in time."""

    image: Stamped
    companion: Stamped | None


class Matcher:
    """Matches images to companions by their sensors' own stamps.

    An image is released as soon as no nearer companion can come: one of its stamp or later is
    here, or the next one, a period after the newest, would be farther off than the nearest so
    far. Past the deadline it is released with what there is.

    Args:
        tolerance_ns: largest difference of stamps in a pair.
        deadline_ns: longest wait of an image for its companion; 0: never wait.
    """

    def __init__(self, tolerance_ns: int, deadline_ns: int):
        self.tolerance_ns = tolerance_ns
        self.deadline_ns = deadline_ns
        self._images: deque[Stamped] = deque()
        self._companions: deque[Stamped] = deque(maxlen=MAX_COMPANIONS)

    def add_image(self, image: Stamped) -> int:
        """Queue an image; returns how many old ones were pushed out to bound memory."""
        self._images.append(image)
        dropped = max(0, len(self._images) - MAX_IMAGES)
        for _ in range(dropped):
            self._images.popleft()
        return dropped

    def add_companion(self, companion: Stamped) -> None:
        """Queue a companion. One from before the newest (the clock went back) starts afresh."""
        if self._companions and companion.stamp_ns < self._companions[-1].stamp_ns:
            self._companions.clear()
        self._companions.append(companion)

    def take(self, now_ns: int, flush: bool = False) -> list[Pair]:
        """Images that are ready, in the order in which they came.

        Args:
            now_ns: on the clock of the arrival times.
            flush: release all, as at the end of a bag.
        """
        ready = []
        waiting: deque[Stamped] = deque()
        for image in self._images:
            nearest = self._nearest(image.stamp_ns)
            overdue = now_ns - image.arrival_ns >= self.deadline_ns
            if flush or overdue or self._settled(image.stamp_ns, nearest):
                near_enough = (
                    nearest is not None
                    and abs(nearest.stamp_ns - image.stamp_ns) <= self.tolerance_ns
                )
                ready.append(Pair(image, nearest if near_enough else None))
            else:
                waiting.append(image)
        self._images = waiting
        return ready

    def _nearest(self, stamp_ns: int) -> Stamped | None:
        return min(self._companions, key=lambda c: abs(c.stamp_ns - stamp_ns), default=None)

    def _settled(self, stamp_ns: int, nearest: Stamped | None) -> bool:
        """Whether no companion still to come can be nearer."""
        if nearest is None:
            return False
        newest = self._companions[-1].stamp_ns
        if newest >= stamp_ns:
            return True
        if len(self._companions) < 2:
            return False
        expected = newest + (newest - self._companions[-2].stamp_ns)
        gap = abs(nearest.stamp_ns - stamp_ns)
        return gap <= self.tolerance_ns and expected - stamp_ns > gap
