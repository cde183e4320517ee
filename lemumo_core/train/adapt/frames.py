"""The frames of an adaptation: a robot's own, and labelled ones beside them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from lemumo_core.data.mixture import Subset
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import data_name
from lemumo_core.data.sources.registry import open_source, source_of
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.loader import FRAMES_PER_DRIVE
from lemumo_core.train.selection import Selection, recordings

KEPT_APART = 5
"""One in so many frames, or recordings, is kept apart."""
FRAMES = "frames"
"""Folder of rendered frames in a run's."""


class AdaptationFrames:
    """Own frames, labelled ones, and then those for validation, own and labelled, as a source.

    Args:
        own: a robot's frames; those that are trained on lose whatever labels they have.
        split: which of them are trained on and which validate.
        labelled: labelled frames.
        val_labelled: how many of these, the last ones, validate.
    """

    def __init__(
        self, own: FrameSource, split: Selection, labelled: FrameSource, val_labelled: int
    ):
        first = len(labelled) - val_labelled
        self.parts = (
            Subset(own, split.trained),
            Subset(labelled, range(first)),
            Subset(own, split.validation),
            Subset(labelled, range(first, len(labelled))),
        )
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Frame:
        at = range(len(self))[index]
        part = bisect_right(self.ends, at)
        frame = self.parts[part][at - (self.ends[part - 1] if part else 0)]
        return frame if part else replace(frame, labels=None)

    def describe(self) -> dict[str, Any]:
        """Describe the own frames and the ``labelled`` ones, see ``FrameSource``."""
        own, labelled, *_ = self.parts
        return {**own.source.describe(), "labelled": labelled.source.describe()}

    @property
    def own_val(self) -> range:
        """Own frames that validate."""
        return range(self.ends[1], self.ends[2])

    @property
    def labelled_val(self) -> range:
        """Labelled frames that validate."""
        return range(self.ends[2], self.ends[3])


class HalfLabelled(BatchSampler):
    """Batches of own and labelled frames in turn, the own ones at even places.

    Args:
        own, labelled: how many there are to train on; the labelled ones follow the own ones.
        batch: frames of a step, over all ranks.
        seed: of the order.
    """

    def __init__(self, own: int, labelled: int, batch: int, seed: int):
        super().__init__(own + labelled, batch, seed)
        self.own = BatchSampler(own, batch // 2, seed)
        self.labelled = BatchSampler(labelled, batch // 2, seed)

    def __getitem__(self, step: int) -> list[int]:
        """See ``BatchSampler``."""
        pairs = zip(self.own[step], self.labelled[step], strict=True)
        return [index for own, other in pairs for index in (own, self.own.frames + other)]


def open_frames(config: AdaptConfig, out: Path) -> AdaptationFrames:
    """Open the frames of an adaptation; streets are rendered into the run's folder first.

    Raises:
        Fault: ``no_frames`` where there are too few; as ``source_of`` and ``write_shards``.
        FileNotFoundError: as the sources.
    """
    own, labelled = source_of(config.data, **config.data_options), _labelled(config, out)
    for frames, name in ((own, data_name(config.data)), (labelled, config.labelled)):
        if len(frames) < KEPT_APART:
            raise Fault(
                "no_frames",
                f"{name} has {len(frames)} frames, and a part of them is kept apart: give at least "
                f"{KEPT_APART}",
            )
    val_labelled = min(config.val_labelled, len(labelled) // KEPT_APART)
    return AdaptationFrames(own, split_own(own, config.val_frames), labelled, val_labelled)


def split_own(own: FrameSource, most: int) -> Selection:
    """Keep a fifth of the frames apart: the last recordings, or the end of a single one.

    Args:
        own: the frames.
        most: so many of the frames kept apart validate, evenly spaced.
    """
    groups = recordings(own)
    if len(groups) > 1:
        last = -(-len(groups) // KEPT_APART)
        trained, kept = groups[:-last], groups[-last:]
    else:
        (only,) = groups
        first = len(only) - max(1, len(only) // KEPT_APART)
        trained, kept = [only[:first]], [only[first:]]
    validation = sorted(i for group in kept for i in group)
    chosen = [validation[i] for i in evenly_spaced(len(validation), most)]
    return Selection(sorted(i for group in trained for i in group), chosen)


def sampler_of(config: AdaptConfig, source: FrameSource) -> BatchSampler:
    """Return the batches of a run."""
    assert isinstance(source, AdaptationFrames)
    own, labelled, *_ = source.parts
    return HalfLabelled(len(own), len(labelled), config.batch, config.seed)


def _labelled(config: AdaptConfig, out: Path) -> FrameSource:
    if config.labelled is not None:
        return source_of("shards", root=config.labelled)
    canvas = config.canvas_spec
    rendered = open_source(
        "synthetic",
        height=canvas.height,
        width=canvas.width,
        companion=canvas.companion,
        frames=config.labelled_frames,
        frames_per_drive=FRAMES_PER_DRIVE,
    )
    write_shards(rendered, str(out / FRAMES), frames_per_shard=8)
    return Shards(str(out / FRAMES))
