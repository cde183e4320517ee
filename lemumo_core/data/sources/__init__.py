"""One file a source of Frames: a data set, recorded bags, or the world we render."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from lemumo_core.frame import Frame


class FrameSource(Protocol):
    """A sequence of Frames: random access, the same Frame for the same index every time, and
    cheap to pickle, so that workers can each hold one (open files are reopened there)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame:
        """One Frame; negative indices count from the end.

        Raises:
            IndexError: past the end.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What this is, for logs and for the index of shards: JSON values only, at least
        ``source`` (its name), ``root`` where it has one, and ``frames`` (how many)."""
        ...


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most so many indices below ``count``, evenly spread from the first to the last."""
    indices = np.linspace(0, count - 1, max(0, min(count, most))).round().astype(int)
    return np.unique(indices).tolist()
