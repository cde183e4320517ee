"""The data path of training: which frames, from where, and which views of them.

All of it is a function of the seed and the step. Frames are read at random by worker processes,
views are cut on the device; a rank takes its share of the frames and views of the whole batch, so
that they do not depend on how many ranks there are.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.registry import SOURCES, open_source, source_of
from lemumo_core.data.views import MultiCrop, View
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.model.patch_embed import modality_dropout
from lemumo_core.preprocess import InputSpec
from lemumo_core.train.run_config import RunConfig
from lemumo_core.train.seeds import generator

SYNTHETIC_FRAMES = {"frames": 160, "frames_per_drive": 4}
"""Few enough to render in a minute, of many streets."""


def open_data(config: RunConfig, out: Path) -> FrameSource:
    """The source that a run trains on; a slow one is first written as shards.

    Raises:
        Fault: as ``open_source`` and ``write_shards``; ``no_frames`` where none are left to train
            on.
        FileNotFoundError: as the source.
    """
    source, cache = _open(config), config.frame_cache
    if cache is None and config.data == "synthetic":
        cache = str(out / "frames")
    if cache is not None:
        write_shards(source, cache, frames_per_shard=8)
        source = Shards(cache)
    if len(source) <= config.held_out:
        raise Fault(
            "no_frames",
            f"{config.data} has {len(source)} frames and held_out is {config.held_out}: none are "
            "left to train on; lower held_out",
        )
    if config.fraction == 1:
        return source
    learnt = len(source) - config.held_out
    last = range(learnt, len(source))
    return Part(source, [*part_of(learnt, config.fraction, config.seed), *last])


def _open(config: RunConfig) -> FrameSource:
    canvas: InputSpec = config.canvas_spec
    options: dict[str, Any] = dict(config.data_options)
    if config.data == "synthetic":
        size = {"height": canvas.height, "width": canvas.width, "companion": canvas.companion}
        return open_source("synthetic", **{**SYNTHETIC_FRAMES, **size, **options})
    if config.data not in SOURCES:  # shards
        options = {"at_least": (canvas.height, canvas.width), **options}
    return source_of(config.data, **options)


class Part:
    """Some frames of a source, as a source.

    Args:
        source: of all.
        frames: their numbers.
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


def part_of(frames: int, fraction: float, seed: int) -> list[int]:
    """A random share of so many frames, at least one, in rising order; a smaller share of one seed
    is part of a larger one."""
    drawn = np.random.default_rng([seed, frames]).permutation(frames)
    return sorted(drawn[: max(1, round(fraction * frames))].tolist())


class FrameOrder:
    """Which frames a step takes: without end, one pass over all frames after the other.

    Args:
        frames: how many there are.
        batch: frames of a step, over all ranks.
        seed: of the order.
        groups: numbers of the first frames of groups; each pass takes the groups in random order
            and shuffles within them. Without any, all frames are one group.
    """

    def __init__(self, frames: int, batch: int, seed: int, groups: Sequence[int] = ()):
        self.frames, self.batch, self.seed = frames, batch, seed
        starts = sorted({0, *(start for start in groups if start < frames)})
        self.groups = [range(*ends) for ends in zip(starts, [*starts[1:], frames], strict=True)]
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __getitem__(self, step: int) -> list[int]:
        """Frames of a step, in the order of the batch; a pure function of the arguments."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return [int(self._of_epoch(p // self.frames)[p % self.frames]) for p in positions]

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            shuffled = [rng.permutation(self.groups[g]) for g in rng.permutation(len(self.groups))]
            self._epoch, self._order = epoch, np.concatenate(shuffled)
        return self._order


def frame_order(config: RunConfig, source: FrameSource) -> FrameOrder:
    """The order of a run, which leaves out what is held out."""
    groups: Sequence[int] = ()
    if config.shuffle_shards and isinstance(source, Shards):
        groups = source.ends[config.shuffle_shards - 1 :: config.shuffle_shards]
    return FrameOrder(len(source) - config.held_out, config.batch, config.seed, groups)


class Samples(Dataset[Batch]):
    """Frames of a source as samples. With classes they carry labels."""

    def __init__(self, source: FrameSource, canvas: InputSpec, classes: Sequence[str] | None):
        self.source, self.canvas, self.classes = source, canvas, classes

    def __getitem__(self, index: int) -> Batch:
        """One sample; a Fault says which frame it is of."""
        try:
            return sample(self.source[index], self.canvas, self.classes)
        except Fault as fault:
            advice = "shards of training/prepare.py leave such frames out"
            raise Fault(fault.reason, f"frame {index}: {fault}; {advice}") from fault


def samples_of(config: RunConfig, source: FrameSource) -> Samples:
    """The samples of a run: labels only where it needs them."""
    classes = config.model.detection_classes if config.needs_labels else None
    return Samples(source, config.canvas_spec, classes)


def batches(samples: Samples, indices: Iterator[list[int]], workers: int, pin: bool) -> Any:
    """Iterator over the batches of lists of frames, read ahead by worker processes.

    Workers are spawned, which is safe beside CUDA and threads; a program that calls this needs
    the guard ``if __name__ == "__main__"``.
    """
    loader = DataLoader(
        samples,
        batch_sampler=indices,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def _start_worker(_: int) -> None:
    # Signals to the process group are the training process's to handle; workers end with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)


def training_batches(
    config: RunConfig, samples: Samples, order: FrameOrder, first: int, rank: int, world: int
) -> Any:
    """Iterator over a rank's share of the batches of steps ``first``, ``first + 1`` ..."""
    steps = range(first, config.total_steps(order.frames))
    share = config.batch // world
    mine = slice(rank * share, (rank + 1) * share)
    indices = (order[step][mine] for step in steps)
    return batches(samples, indices, config.scale.workers, torch.cuda.is_available())


def cut_views(
    batch: Batch, config: RunConfig, step: int, rank: int, world: int
) -> tuple[View, ...]:
    """The views of a step: global ones and, unless there are none, local ones.

    Draws are those of the whole batch; a rank keeps the rows of its samples. Modalities are
    withheld view by view: what one sensor says is so tied to what both say.
    """
    views = MultiCrop(config.multi_crop)(batch, generator(config.seed, step, "views"), rank, world)
    if not config.modality_dropout:
        return views
    draw = generator(config.seed, step, "modality dropout")
    samples = torch.arange(world * len(batch)).view(world, -1)[rank]

    def some_withheld(view: View) -> View:
        shape = len(view.image) // len(batch), world * len(batch), 2
        kept = modality_dropout(torch.ones(shape).flatten(0, 1), config.modality_dropout, draw)
        kept = kept.view(shape)[:, samples].flatten(0, 1).to(view.present)
        both = (view.present > 0.5).all(1, keepdim=True)
        return replace(view, present=torch.where(both, kept, view.present))

    return tuple(some_withheld(view) for view in views)
