"""Several sources as one, and parts of sources."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame


class Subset:
    """Some frames of a source, as a source.

    Args:
        source: all frames.
        frames: indices of those.
    """

    def __init__(self, source: FrameSource, frames: Sequence[int]):
        self.source, self.frames = source, frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.source[self.frames[index]]

    def describe(self) -> dict[str, Any]:
        """See ``FrameSource``."""
        return {**self.source.describe(), "frames": len(self)}


class Mixture:
    """The frames of several sources, one source after the other.

    Args:
        members: the sources.
        names: their names, for messages.
        weights: how often each frame of a member is drawn in a pass of training, on average.

    Raises:
        Fault: on a frame, naming its member.
    """

    def __init__(
        self, members: Sequence[FrameSource], names: Sequence[str], weights: Sequence[float]
    ):
        self.members, self.names, self.weights = list(members), list(names), list(weights)
        self.ends = list(accumulate(len(member) for member in self.members))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Frame:
        number, at = self.locate(index)
        try:
            return self.members[number][at]
        except Fault as fault:
            raise Fault(fault.reason, f"{self.names[number]}: {fault}") from fault

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of the member of a frame, and the frame's index in it.

        Raises:
            IndexError: past the end.
        """
        index = range(len(self))[index]
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``, and each of the ``members``."""
        members = [
            {"name": name, "weight": weight, **member.describe()}
            for name, weight, member in zip(self.names, self.weights, self.members, strict=True)
        ]
        return {"source": "mixture", "frames": len(self), "members": members}


def found_in(source: FrameSource, index: int) -> tuple[FrameSource, int]:
    """Return the source that holds a frame, below subsets and mixtures, and its index there."""
    if isinstance(source, Subset):
        return found_in(source.source, source.frames[index])
    if isinstance(source, Mixture):
        number, at = source.locate(index)
        return found_in(source.members[number], at)
    return source, index


class MemberFrames(NamedTuple):
    """Frames of one member in a mixture, or in a subset of one.

    Attributes:
        name: of the member; empty where there is no mixture.
        weight: of the member.
        frames: their indices in the mixture or subset.
    """

    name: str
    weight: float
    frames: list[int]


def by_member(source: FrameSource) -> list[MemberFrames]:
    """Return the frames of each member of a mixture or a subset of one; of others all as one."""
    mixture = source.source if isinstance(source, Subset) else source
    if not isinstance(mixture, Mixture):
        return [MemberFrames("", 1.0, list(range(len(source))))]
    parts = [MemberFrames(*about, []) for about in zip(mixture.names, mixture.weights, strict=True)]
    frames = source.frames if isinstance(source, Subset) else range(len(source))
    for position, frame in enumerate(frames):
        parts[mixture.locate(frame)[0]].frames.append(position)
    return [part for part in parts if part.frames]
