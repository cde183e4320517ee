"""Sources of Frames, one module each: data sets, recorded bags, and the rendered street."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from lemumo_core.frame import Frame


class FrameSource(Protocol):
    """A sequence of Frames with random access.

    The same index gives the same Frame every time. Sources are cheap to pickle, so that workers can
    each hold one (open files are reopened there).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame:
        """Return one Frame; negative indices count from the end.

        Raises:
            IndexError: past the end.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Describe the source, for logs and for the index of shards.

        JSON values only: at least ``source`` (its name), ``root`` where it has one, and ``frames``
        (how many).
        """
        ...


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most so many indices below ``count``, evenly spaced from the first to the last."""
    indices = np.linspace(0, count - 1, max(0, min(count, most))).round().astype(int)
    return np.unique(indices).tolist()
