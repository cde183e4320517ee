"""Which frames of a source are trained on, and which validate."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from lemumo_core.data.mixture import MemberFrames, Mixture, by_member, found_in
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import data_name
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.progress import track
from lemumo_core.train.run_config import RunConfig
from lemumo_core.wording import count_of

GAP_NS = 10_000_000_000
"""Frames with no other between them for longer are of two recordings."""


class Selection(NamedTuple):
    """Indices of the frames of a source that are trained on and that validate, each rising."""

    trained: list[int]
    validation: list[int]


def select_frames(source: FrameSource, config: RunConfig) -> Selection:
    """Select the frames of a run as its ``val``, ``val_frames`` and ``fraction`` ask for.

    Of a mixture this is done for each member, which gives as large a share of the frames for
    validation as of all; frames of the first member come first.

    Raises:
        Fault: ``no_frames`` where none are left to train on; ``one_recording``; ``no_labels``
            where a share of the labelled frames is asked for and there are none. Of a mixture,
            naming the member.
    """
    if isinstance(source, Mixture):
        return _select_of_members(source, config)
    name = data_name(config.data, config.data_options)
    if len(source) <= config.val_frames:
        raise Fault(
            "no_frames",
            f"{name} has {count_of(len(source), 'frame')} and val_frames is "
            f"{config.val_frames}: none are left to train on; lower val_frames",
        )
    trained, validation = _split(source, config)
    if config.fraction < 1:
        if config.learns_from_labels:
            trained = [i for i in track(trained, "find labels") if has_labels(source, i)]
            if not trained:
                raise no_labels(name)
        drawn = subset_indices(len(trained), config.fraction, config.seed)
        trained = [trained[i] for i in drawn]
    return Selection(trained, validation)


def _select_of_members(mixture: Mixture, config: RunConfig) -> Selection:
    """Select the frames of each member."""

    def select(member: FrameSource, name: str, share: int) -> Selection:
        own = replace(config, data=name, data_options={}, val_frames=share)
        try:
            return select_frames(member, own)
        except Fault as fault:
            if fault.reason != "no_labels":
                raise
            return Selection([], _split(member, own).validation)

    selected = select_by_member(mixture, config.val_frames, select)
    if not selected.trained:
        raise no_labels(", ".join(mixture.names))
    return selected


def select_by_member(
    mixture: Mixture, val_frames: int, select: Callable[[FrameSource, str, int], Selection]
) -> Selection:
    """Select frames of each member of a mixture, which validates in proportion to its frames.

    Args:
        mixture: all frames.
        val_frames: how many validate.
        select: takes a member, its name and how many of its frames validate.
    """
    selected = Selection([], [])
    shares = proportional(val_frames, [len(member) for member in mixture.members])
    ends = [0, *mixture.ends]
    for member, name, share, first in zip(
        mixture.members, mixture.names, shares, ends, strict=False
    ):
        for all_of_them, of_member in zip(selected, select(member, name, share), strict=True):
            all_of_them += [first + i for i in of_member]
    return selected


def proportional(total: int, sizes: Sequence[int]) -> list[int]:
    """Share out a number in proportion to sizes; what is left over goes to the largest remainders.

    No share is larger than its size where the sum of the sizes is at least the number.
    """
    exact = [total * size / sum(sizes) for size in sizes]
    shares = [math.floor(one) for one in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _split(source: FrameSource, config: RunConfig) -> Selection:
    if config.val == "end" or not config.val_frames:
        first = len(source) - config.val_frames
        return Selection(list(range(first)), list(range(first, len(source))))
    groups = recordings(source)
    drawn = np.random.default_rng([config.seed, len(groups)]).permutation(len(groups))
    frames = list(accumulate(len(groups[g]) for g in drawn))
    enough = next(n for n, total in enumerate(frames, 1) if total >= config.val_frames)
    if enough == len(groups):
        raise Fault(
            "one_recording",
            f"{data_name(config.data, config.data_options)} holds "
            f"{count_of(len(groups), 'recording')} (cut where no frame comes for "
            f"{GAP_NS // 1_000_000_000} s), and {config.val_frames} "
            "validation frames take all of them: "
            + ("lower --val_frames, or take --val end" if len(groups) > 1 else "take --val end"),
        )
    kept = sorted(i for g in drawn[:enough] for i in groups[g])
    trained = sorted(i for g in drawn[enough:] for i in groups[g])
    return Selection(trained, [kept[i] for i in evenly_spaced(len(kept), config.val_frames)])


def recordings(source: FrameSource) -> list[list[int]]:
    """Return the frames of each recording, in order of time.

    Frames belong together where their stamps do, so that cameras of one vehicle are one recording.
    """
    stamps_ns = np.array([_stamp_ns(source, i) for i in track(range(len(source)), "read stamps")])
    order = np.argsort(stamps_ns, kind="stable")
    cuts = np.flatnonzero(np.diff(stamps_ns[order]) > GAP_NS) + 1
    return [sorted(part.tolist()) for part in np.split(order, cuts)]


def same_recording(source: FrameSource, one: int, other: int) -> bool:
    """Return whether two frames are so close in time that they show the same scene."""
    return abs(_stamp_ns(source, one) - _stamp_ns(source, other)) <= GAP_NS


def describe_data(config: RunConfig, source: FrameSource) -> str:
    """Describe the frames of a run, those for validation last: how many, their size, the split."""
    spec, count = config.canvas_spec, config.val_frames
    learnt, parts = len(source) - count, by_member(source)
    text = f"{count_of(learnt, 'frame')} to train on and {count} for validation, "
    text += "; ".join(_describe_part(source, part, learnt) for part in parts)
    text += f", seen at {spec.width} x {spec.height} (--model.width, --model.height, --canvas)"
    if count > learnt:
        text += f"; more validate than are trained on: lower --val_frames {count}"
    if config.val == "end" and any(_is_cut(source, part, learnt) for part in parts):
        text += (
            "; those for validation are the end of the last recording, whose start is trained on: "
            "--val recordings takes whole ones"
        )
    return text


def _describe_part(source: FrameSource, part: MemberFrames, learnt: int) -> str:
    camera = source[part.frames[0]].camera
    size = f"of {camera.width} x {camera.height} pixels"
    if not part.name:
        return size
    trained = bisect_left(part.frames, learnt)
    split = f"{trained} and {len(part.frames) - trained}"
    return f"{split} {size} from {part.name} (weight {part.weight:g})"


def _is_cut(source: FrameSource, part: MemberFrames, learnt: int) -> bool:
    """Return whether a recording of a member is trained on and validates."""
    first = bisect_left(part.frames, learnt)
    if not 0 < first < len(part.frames):
        return False
    return same_recording(source, part.frames[first - 1], part.frames[first])


def has_labels(source: FrameSource, index: int) -> bool:
    """Return whether a frame has any truth to learn from."""
    source, index = found_in(source, index)
    if isinstance(source, Shards):
        return source.has_labels(index)
    labels = source[index].labels or Labels()
    parts = labels.boxes_3d, labels.boxes_2d, labels.label_map, labels.depth_m, labels.point_labels
    return any(part is not None for part in parts)


def any_labels(source: FrameSource, indices: Iterable[int]) -> bool:
    """Return whether any of the frames has labels; it looks no further than the first."""
    return any(has_labels(source, i) for i in track(list(indices), "find labels"))


def no_labels(data: str) -> Fault:
    """Return the fault of data that cannot be fine-tuned on."""
    return Fault(
        "no_labels",
        f"no frame of {data} that is trained on has labels, which fine-tuning learns from: "
        "pretrain on it, or give labelled frames (lemumo prepare SOURCE --help)",
    )


def subset_indices(frames: int, fraction: float, seed: int) -> list[int]:
    """Draw a random share of frames, at least one, in rising order.

    A smaller share of one seed is part of a larger one.
    """
    drawn = np.random.default_rng([seed, frames]).permutation(frames)
    return sorted(drawn[: max(1, round(fraction * frames))].tolist())


def _stamp_ns(source: FrameSource, index: int) -> int:
    source, index = found_in(source, index)
    if isinstance(source, Shards):
        return source.stamp_and_camera(index)[0]
    return source[index].stamp_ns
