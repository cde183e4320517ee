"""Tables that are held while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

MAX_OPEN = 8
"""How many are held at once; the one unused for longest is dropped first."""
K = TypeVar("K")
T = TypeVar("T")


class RecentlyUsed(Generic[K, T]):
    """A cache of what was opened last, by the number of its place.

    A copy in another process opens its own.

    Args:
        open_one: opens a place.
        places: such as folders.
    """

    def __init__(self, open_one: Callable[[K], T], places: Sequence[K]):
        self.open_one, self.places = open_one, places
        self._open: OrderedDict[int, T] = OrderedDict()

    def __getitem__(self, number: int) -> T:
        if number not in self._open:
            self._open[number] = self.open_one(self.places[number])
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}
