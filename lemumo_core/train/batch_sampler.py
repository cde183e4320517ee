"""Which frames every step takes: a function of the seed and the step alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, groupby

import numpy as np

from lemumo_core.data.mixture import by_member, found_in
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.train.run_config import RunConfig


class BatchSampler:
    """Frames of every step: without end, one pass over all frames after the other.

    Args:
        frames: how many there are.
        batch: frames of a step, over all ranks.
        seed: of the order.
        groups: numbers of the first frames of groups; each pass takes the groups in random order
            and shuffles within them. Without any, all frames are one group.

    Attributes:
        draws: frames that one pass draws.
    """

    def __init__(self, frames: int, batch: int, seed: int, groups: Sequence[int] = ()):
        self.frames, self.batch, self.seed = frames, batch, seed
        self.draws = frames
        starts = sorted({0, *(start for start in groups if start < frames)})
        self.groups = [range(*ends) for ends in zip(starts, [*starts[1:], frames], strict=True)]
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __getitem__(self, step: int) -> list[int]:
        """Return the frames of a step, in the order of the batch; a pure function of all."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return [self.frame(position) for position in positions]

    def frame(self, position: int) -> int:
        """Return the frame at a position of the endless order."""
        epoch, at = divmod(position, self.draws)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return int(self._order[at])

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Return the frames of a pass in their order."""
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = [rng.permutation(self.groups[g]) for g in rng.permutation(len(self.groups))]
        return np.concatenate(shuffled)


class MixtureSampler(BatchSampler):
    """Frames of every step of several members, which are mixed at random in each pass.

    Each member has an endless order of its own, from which a pass takes as many frames as the
    member has, times its weight. So no frame comes again before all of its member have come.

    Args:
        members: orders of the members, whose frames follow one another.
        weights: how often each frame of a member is drawn in a pass, on average.
        batch: frames of a step, over all ranks.
        seed: of the order.
    """

    def __init__(
        self, members: Sequence[BatchSampler], weights: Sequence[float], batch: int, seed: int
    ):
        super().__init__(sum(member.frames for member in members), batch, seed)
        self.members = members
        self.draws_of = [
            max(1, round(weight * member.frames))
            for weight, member in zip(weights, members, strict=True)
        ]
        self.draws = sum(self.draws_of)

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        turns = rng.permutation(np.repeat(np.arange(len(self.members)), self.draws_of))
        order = np.empty(self.draws, np.int64)
        start = 0
        for number, (member, draws) in enumerate(zip(self.members, self.draws_of, strict=True)):
            drawn = [member.frame(epoch * draws + k) for k in range(draws)]
            order[turns == number] = np.add(start, drawn)
            start += member.frames
        return order


def batch_sampler(config: RunConfig, source: FrameSource) -> BatchSampler:
    """Return the batches of a run, without the frames for validation.

    Args:
        config: of the run.
        source: its frames; those of a mixture's members follow one another, and then those for
            validation come.
    """
    trained = len(source) - config.val_frames
    return sampler_over(source, trained, config.batch, config.seed, config.shuffle_shards)


def sampler_over(
    source: FrameSource, trained: int, batch: int, seed: int, shuffle_shards: int = 0
) -> BatchSampler:
    """Return batches of the first frames of a source.

    Args:
        source: a mixture's members are drawn by their weights.
        trained: how many frames are drawn.
        batch: frames of a step, over all ranks.
        seed: of the order.
        shuffle_shards: as of ``RunConfig``.
    """
    parts = [part for part in by_member(source) if part.frames[0] < trained]
    learnt = [part.frames[: bisect_left(part.frames, trained)] for part in parts]
    groups = [_group_starts(source, frames, shuffle_shards) for frames in learnt]
    if len(parts) == 1 and parts[0].weight == 1:
        return BatchSampler(trained, batch, seed, groups[0])
    members = [
        BatchSampler(len(frames), 1, seed, starts)
        for frames, starts in zip(learnt, groups, strict=True)
    ]
    weights = [part.weight for part in parts]
    return MixtureSampler(members, weights, batch, seed)


def _group_starts(source: FrameSource, frames: Sequence[int], shards: int) -> list[int]:
    """Return where groups of so many shards begin among frames; of other sources all are one."""
    if not shards:
        return []
    found = (found_in(source, frame) for frame in frames)
    groups = [
        (id(one), one.shard_of(index) // shards if isinstance(one, Shards) else 0)
        for one, index in found
    ]
    sizes = [len(list(group)) for _, group in groupby(groups)]
    return [0, *accumulate(sizes[:-1])]
