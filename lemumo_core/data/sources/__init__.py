"""One file a source of Frames: a data set, recorded bags, or the world we render."""

from __future__ import annotations

from typing import Any, Protocol

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
