"""The frames of an adaptation: a robot's own, and labelled ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lemumo_core.data.mixture import Mixture, Subset, by_member
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import Data, data_name, members_of
from lemumo_core.data.sources.registry import open_mixture, open_source
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.batch_sampler import BatchSampler, sampler_over
from lemumo_core.train.loader import FRAMES_PER_DRIVE
from lemumo_core.train.selection import Selection, recordings, select_by_member
from lemumo_core.wording import count_of

KEPT_APART = 5
"""One in so many frames, or recordings, is kept apart."""
FRAMES = "frames"
"""Folder of rendered frames in a run's."""


class AdaptationFrames(Mixture):
    """Own frames, labelled ones, and then those for validation, own and labelled.

    Args:
        own: a robot's frames; those that are trained on lose whatever labels they have.
        own_split: which of them are trained on and which validate.
        labelled: labelled frames.
        labelled_split: likewise.

    Attributes:
        own, labelled: those that are trained on.
    """

    def __init__(
        self,
        own: FrameSource,
        own_split: Selection,
        labelled: FrameSource,
        labelled_split: Selection,
    ):
        self.own = Subset(own, own_split.trained)
        self.labelled = Subset(labelled, labelled_split.trained)
        subsets = {
            "own frames": self.own,
            "labelled frames": self.labelled,
            "own frames kept apart": Subset(own, own_split.validation),
            "labelled frames kept apart": Subset(labelled, labelled_split.validation),
        }
        parts = [
            (
                Subset(subset, part.frames),
                f"{name}{f' of {part.name}' * bool(part.name)}",
                part.weight,
            )
            for name, subset in subsets.items()
            for part in by_member(subset)
        ]
        sources, names, weights = (list(column) for column in zip(*parts, strict=True))
        super().__init__(sources, names, weights)
        *_, own_val, labelled_val = subsets.values()
        self._first_val = len(self) - len(own_val) - len(labelled_val)
        self._first_labelled_val = len(self) - len(labelled_val)

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        frame = super().__getitem__(index)
        return replace(frame, labels=None) if index < len(self.own) else frame

    def describe(self) -> dict[str, Any]:
        """Describe the own frames and the ``labelled`` ones, see ``FrameSource``."""
        return {**self.own.source.describe(), "labelled": self.labelled.source.describe()}

    @property
    def own_val(self) -> range:
        """Own frames that validate."""
        return range(self._first_val, self._first_labelled_val)

    @property
    def labelled_val(self) -> range:
        """Labelled frames that validate."""
        return range(self._first_labelled_val, len(self))


class HalfLabelled(BatchSampler):
    """Batches of own and labelled frames in turn, the own ones at even places.

    Args:
        own: batches of the own frames.
        labelled: as large batches of the labelled ones, which follow the own ones.
    """

    def __init__(self, own: BatchSampler, labelled: BatchSampler):
        super().__init__(own.frames + labelled.frames, own.batch + labelled.batch, own.seed)
        self.own, self.labelled = own, labelled
        self.draws = own.draws + labelled.draws

    def __getitem__(self, step: int) -> list[int]:
        """See ``BatchSampler``."""
        pairs = zip(self.own[step], self.labelled[step], strict=True)
        return [index for own, other in pairs for index in (own, self.own.frames + other)]


def open_frames(config: AdaptConfig, out: Path) -> AdaptationFrames:
    """Open the frames of an adaptation; streets are rendered into the run's folder first.

    A part of each member of a list is kept apart.

    Raises:
        Fault: ``no_frames`` where there are too few; ``no_companion`` where none has LiDAR points;
            as ``members_of``, ``open_mixture`` and ``write_shards``.
        FileNotFoundError: as the sources.
    """
    own = _open(config.data, config.data_options)
    own_split = split_own(own, config.val_frames)
    if not any(isinstance(own[i].companion, LidarScan) for i in own_split.trained):
        raise Fault(
            "no_companion",
            f"no frame of {data_name(config.data, config.data_options)} has LiDAR points, which "
            "adaptation learns depth from: give a recording with a LiDAR, or with a depth camera",
        )
    if config.labelled is None:
        return AdaptationFrames(own, own_split, *_rendered(config, out))
    labelled = _open(config.labelled, {})
    val_labelled = min(config.val_labelled, len(labelled) // KEPT_APART)
    return AdaptationFrames(own, own_split, labelled, split_end(labelled, val_labelled))


def _open(data: Data, options: Mapping[str, Any]) -> FrameSource:
    """Open frames of which each member has enough that a part is kept apart."""
    source = open_mixture(members_of(data, options))
    for part in by_member(source):
        if len(part.frames) < KEPT_APART:
            raise Fault(
                "no_frames",
                f"{part.name or data_name(data, options)} has "
                f"{count_of(len(part.frames), 'frame')}, and a part of them is kept apart: "
                f"give at least {KEPT_APART}",
            )
    return source


def split_own(own: FrameSource, most: int) -> Selection:
    """Keep a fifth of the frames apart: the last recordings, or the end of a single one.

    Args:
        own: the frames.
        most: so many of the frames kept apart validate, evenly spaced.
    """
    if isinstance(own, Mixture):
        return select_by_member(own, most, lambda member, _, share: split_own(member, share))
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


def split_end(labelled: FrameSource, val_frames: int) -> Selection:
    """Keep the last frames apart, of each member of a mixture its own."""
    if isinstance(labelled, Mixture):
        return select_by_member(labelled, val_frames, lambda one, _, share: split_end(one, share))
    first = len(labelled) - val_frames
    return Selection(list(range(first)), list(range(first, len(labelled))))


def sampler_of(config: AdaptConfig, source: FrameSource) -> BatchSampler:
    """Return the batches of a run: half of each of own and labelled frames, by their weights."""
    assert isinstance(source, AdaptationFrames)
    half = config.batch // 2
    own, labelled = (
        sampler_over(part, len(part), half, config.seed) for part in (source.own, source.labelled)
    )
    return HalfLabelled(own, labelled)


def _rendered(config: AdaptConfig, out: Path) -> tuple[FrameSource, Selection]:
    """Render streets to train on, and others that validate.

    Streets that a package was trained on are those where its boxes are best: there they fall with
    any change. So what validates has the streets, rigs and cars of another split.
    """
    canvas, members = config.canvas_spec, {}
    for split, frames in (("train", config.labelled_frames), ("val", config.val_labelled)):
        rendered = open_source(
            "synthetic",
            height=canvas.height,
            width=canvas.width,
            companion=canvas.companion,
            split=split,
            frames=frames,
            frames_per_drive=FRAMES_PER_DRIVE,
        )
        write_shards(rendered, str(out / FRAMES / split), frames_per_shard=8)
        members[f"rendered streets ({split})"] = Shards(str(out / FRAMES / split))
    labelled = Mixture(list(members.values()), list(members), [1.0] * len(members))
    trained = list(range(config.labelled_frames))
    return labelled, Selection(trained, list(range(len(trained), len(labelled))))
