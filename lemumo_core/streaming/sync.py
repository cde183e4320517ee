"""Pair each image with the companions nearest to it in time. The caller gives the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Any

MAX_IMAGES = 8
MAX_COMPANIONS = 16
MAX_LATE = 3
"""Consecutive images older than an earlier one, from which on the clock is taken to have gone
back."""
MAX_LAG_NS = 1_000_000_000
"""Largest difference between the time from stamp to stamp and from arrival to arrival of two
messages. Past it a clock has jumped between them, and their stamps cannot be compared, unless one
of them was only handed over late."""
MAX_LATE_NS = 10_000_000_000
"""Longest that an executor hands a message over late."""


@dataclass(frozen=True, eq=False)
class Stamped:
    """A message that has arrived.

    Attributes:
        stamp_ns: of its header.
        arrival_ns: when it arrived, by a steady clock.
        message: the message.
        clock_ns: when it arrived, by the clock of the stamps; None where this is not known.
    """

    stamp_ns: int
    arrival_ns: int
    message: Any
    clock_ns: int | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its companions: one of each sensor whose message came in time."""

    image: Stamped
    companions: tuple[Stamped, ...] = ()

    @property
    def companion(self) -> Stamped | None:
        """The first companion; None where none came in time."""
        return self.companions[0] if self.companions else None


def has_waited(
    image: Stamped, longest_ns: int, now_ns: int, delivered: Callable[[], int] | None = None
) -> bool:
    """Return whether an image has waited as long as it may for messages that belong to it.

    Args:
        image: the image.
        longest_ns: longest wait; 0: none.
        now_ns: time on the clock of the arrival times.
        delivered: returns the time, on that clock, until which all that arrived has been handed
            over; called only for an image whose time is up. None: all that arrived has been.
    """
    if 0 <= now_ns - image.arrival_ns < longest_ns:
        return False
    if delivered is None or not longest_ns:
        return True
    return delivered() - image.arrival_ns >= longest_ns


class Matcher:
    """Matches images to companions by their sensors' own stamps.

    An image is released as soon as no nearer companion can come of any sensor: one of its stamp or
    later is here, or the next one, a period after the newest, would be farther off than the nearest
    so far. Past the deadline it is released with what there is. Each image comes out once, or is
    dropped with a reason. Nothing outlives a clock that jumps, either way: what came before the
    jump is not compared with what came after it, and is pushed out by it.

    Args:
        tolerance_ns: largest difference of stamps in a pair, after the offset.
        deadline_ns: longest wait of an image for its companion; 0: never wait.
        offset_ns: stamp of the companion minus stamp of the image when both show the same moment.
        sensors: number of companion sensors, such as LiDARs.
    """

    def __init__(self, tolerance_ns: int, deadline_ns: int, offset_ns: int = 0, sensors: int = 1):
        self.tolerance_ns = tolerance_ns
        self.deadline_ns = deadline_ns
        self.offset_ns = offset_ns
        self._images: deque[Stamped] = deque()
        self._sensors: list[deque[Stamped]] = [deque(maxlen=MAX_COMPANIONS) for _ in range(sensors)]
        self._newest_image_ns: int | None = None
        self._late = 0

    def add_image(self, image: Stamped) -> str | None:
        """Queue an image.

        Returns:
            Reason for which an image was dropped, or None: ``duplicate`` (this image, whose stamp
            came before), ``out_of_order`` (this image, after a newer one), ``queue_full`` (the
            oldest image).
        """
        if self._newest_image_ns is not None:
            behind_ns = self._newest_image_ns - image.stamp_ns
            if behind_ns == 0:
                return "duplicate"
            if 0 < behind_ns <= MAX_LAG_NS:
                self._late += 1
                if self._late < MAX_LATE:
                    return "out_of_order"
        self._newest_image_ns, self._late = image.stamp_ns, 0
        self._images.append(image)
        if len(self._images) <= MAX_IMAGES:
            return None
        self._images.popleft()
        return "queue_full"

    def add_companion(self, companion: Stamped, sensor: int = 0) -> None:
        """Queue a companion; a full queue drops the one that arrived first, whatever its stamp."""
        self._sensors[sensor].append(companion)

    def take(
        self, now_ns: int, flush: bool = False, delivered: Callable[[], int] | None = None
    ) -> list[Pair]:
        """Remove and return the images that are ready, in order of arrival, with their companions.

        Args:
            now_ns: time on the clock of the arrival times.
            flush: whether to release all, as at the end of a bag.
            delivered: as for ``has_waited``.
        """
        ready = []
        waiting: deque[Stamped] = deque()
        for image in self._images:
            of_sensors = [self._candidates(image, queue) for queue in self._sensors]
            settled = all(self._settled(image, found) for found in of_sensors)
            if flush or settled or has_waited(image, self.deadline_ns, now_ns, delivered):
                nearest = (self._nearest(image, found) for found in of_sensors)
                ready.append(Pair(image, tuple(one for one in nearest if one is not None)))
            else:
                waiting.append(image)
        self._images = waiting
        return ready

    def _candidates(self, image: Stamped, companions: Iterable[Stamped]) -> list[Stamped]:
        """Return those with stamps comparable to the image's, sorted, without repeats."""
        by_stamp = {
            c.stamp_ns: c for c in companions if _are_of_one_clock(image, c, self._gap(image, c))
        }
        return [by_stamp[stamp_ns] for stamp_ns in sorted(by_stamp)]

    def _gap(self, image: Stamped, companion: Stamped) -> int:
        return companion.stamp_ns - self.offset_ns - image.stamp_ns

    def _nearest(self, image: Stamped, candidates: list[Stamped]) -> Stamped | None:
        nearest = min(candidates, key=lambda c: abs(self._gap(image, c)), default=None)
        if nearest is None or abs(self._gap(image, nearest)) > self.tolerance_ns:
            return None
        return nearest

    def _settled(self, image: Stamped, candidates: list[Stamped]) -> bool:
        """Return whether no companion still to come can be nearer."""
        if candidates and self._gap(image, candidates[-1]) >= 0:
            return True
        nearest = self._nearest(image, candidates)
        if nearest is None or len(candidates) < 2:
            return False
        # The median, since the last difference is two periods where one scan was lost.
        period_ns = median_low(b.stamp_ns - a.stamp_ns for a, b in pairwise(candidates))
        return self._gap(image, candidates[-1]) + period_ns > abs(self._gap(image, nearest))


def _are_of_one_clock(image: Stamped, companion: Stamped, gap_ns: int) -> bool:
    """Return whether no clock has jumped between an image and a companion.

    The time between their arrivals is then that between their stamps. Where it is not, one of them
    may have waited for a busy executor. The clock of the stamps decides: unless it has jumped, as
    much time has passed by it as by the steady clock, however late the messages were handed over.

    Args:
        image: the image.
        companion: the companion.
        gap_ns: from the image's stamp to the companion's, the offset taken out.
    """
    passed_ns = companion.arrival_ns - image.arrival_ns
    late_ns = abs(passed_ns - gap_ns)
    if late_ns <= MAX_LAG_NS or image.clock_ns is None or companion.clock_ns is None:
        return late_ns <= MAX_LAG_NS
    jump_ns = companion.clock_ns - image.clock_ns - passed_ns
    return late_ns <= MAX_LATE_NS and abs(jump_ns) <= MAX_LAG_NS
