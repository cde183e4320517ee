"""Write frames of a source as shards, or look at shards.

    lemumo prepare SOURCE [options of the source] --out DIR [--frames N] [--jpeg 90]
    lemumo prepare SOURCE --help
    lemumo prepare --data BAG kitti,root=DIR ... --out DIR      several, with options behind each
    lemumo prepare SOURCE ... --truth TRUTH           with the labels of lemumo label import
    lemumo prepare bags --path DIR --out DIR --executor ray     on the nodes of a Ray cluster
    lemumo prepare stats DIR [--classes FILE]

Stopped, even killed, the same command goes on where it was; the shards are the same bytes whatever
happened and however many workers, on whichever hosts, wrote. Exit codes: 0 done, 1 an error,
3 done but for bags that cannot be read, 85 stopped by a signal.
"""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2

from lemumo_core.bags.named_bags import named_bags
from lemumo_core.cli.source_options import help_without_source, parse_data, parse_source
from lemumo_core.command_line import PARTIAL, guarded, run_function
from lemumo_core.data.bag_shards import BagShardOptions, write_bag_shards
from lemumo_core.data.contact_sheet import contact_sheet
from lemumo_core.data.shard_writer import ShardsSummary, write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.members import Member
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import (
    named_source,
    open_members,
    read_options,
    refuse_weights,
    source_class,
)
from lemumo_core.data.sources.truth_by_stamp import TruthOptions, WithTruth
from lemumo_core.data.statistics import report, statistics
from lemumo_core.executor.executor import Executor, Share, open_executor
from lemumo_core.files import disk_errors_named
from lemumo_core.folders.addresses import open_folder
from lemumo_core.signals import REQUEUE, Stopped
from lemumo_core.taxonomy import read_classes
from lemumo_core.wording import count_of

PROG = "lemumo prepare"


def prepare(arguments: list[str]) -> int:
    """Write the shards that the arguments describe; return the exit code."""
    try:
        return _prepare(arguments)
    except Stopped as stopped:
        print(f"{PROG}: {stopped}; the same command goes on", file=sys.stderr)
        return REQUEUE


@dataclass(frozen=True)
class PrepareOptions:
    """Options of ``lemumo prepare`` beside those of the source.

    Attributes:
        out: folder of the shards, or its URI (s3, gs); one that was begun with the same options is
            finished.
        frames: take only the first so many; by default all.
        frames_per_shard: the fewer, the less is lost when the work is stopped.
        jpeg: quality, 1 to 100, of lossy images (90 is usual); by default images are exact.
        truth: labels that belong to the frames by stamp: the folder that lemumo label import wrote,
            or other shards, or the name of a source. Frames that it does not label have none.
        truth_options: of that source.
        truth_tolerance_ms: farthest that a stamp of the truth may lie from that of its frame.
        workers: tasks at once; by default one for each core, or as many as the cluster has room
            for. Does not change what is written.
        executor: where they run: local, or on a Ray cluster: ray, ray://HOST:10001,
            ray?cpus=2&gpus=0.
        part: I/N, where N hosts share the work, e.g. 3/16; the same command without it finishes
            what is left, and writes the index.
    """

    out: str
    frames: int | None = None
    frames_per_shard: int = 128
    jpeg: int | None = None
    truth: str | None = None
    truth_options: SourceOptions = field(default_factory=dict)
    truth_tolerance_ms: float = 1.0
    workers: int | None = None
    executor: str = "local"
    part: str | None = None

    def truth_by_stamp(self) -> TruthOptions | None:
        """Return where the labels are, if they are not the source's."""
        if self.truth is None:
            return None
        return TruthOptions(self.truth, self.truth_options, round(self.truth_tolerance_ms * 1e6))


def _prepare(arguments: list[str]) -> int:
    open_source: Callable[[], FrameSource]
    if arguments[0].startswith("-"):
        members, options = parse_data(PROG, arguments, PrepareOptions)
        refuse_weights(members)
        open_source, of_bags = partial(open_members, members), _options_of_bags(members)
    else:
        open_source, of_source, given = parse_source(PROG, arguments, PrepareOptions)
        options = PrepareOptions(**given)
        of_bags = of_source if arguments[0] == "bags" else None
    open_folder(options.out).check()
    labels = options.truth_by_stamp()
    truth = None if labels is None else labels.open()  # else each bag would be left out for it
    with open_executor(options.executor, options.workers, options.part) as executor:
        if of_bags is not None:
            summary = _prepare_bags(of_bags, options, executor)
        else:
            source = open_source()
            if truth is not None:
                source = WithTruth(source, truth)
            summary = write_shards(
                source,
                options.out,
                options.frames,
                options.frames_per_shard,
                options.jpeg,
                executor,
            )
    print(describe(summary, options))
    return PARTIAL if summary.failed else 0


def _options_of_bags(members: Sequence[Member]) -> dict[str, Any] | None:
    """Return the options of ``Bags`` for all bags together; None where there is anything else."""
    paths: list[Any] = []
    found: list[dict[str, Any]] = []
    parameters = inspect.signature(source_class("bags")).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    for member in members:
        name, location = named_source(member.data)
        if name != "bags" or "path" not in (options := {**location, **member.options}):
            return None
        options = {**defaults, **read_options(name, options)}
        paths.append(options.pop("path"))
        found.append(options)
    if any(options != found[0] for options in found):
        return None
    return {**found[0], "path": paths}


def _prepare_bags(
    of_source: dict[str, Any], options: PrepareOptions, executor: Executor
) -> ShardsSummary:
    of_bag = {name: value for name, value in of_source.items() if name != "path"}
    shards = BagShardOptions(
        of_bag, options.truth_by_stamp(), options.frames_per_shard, options.jpeg
    )
    bags = named_bags(of_source["path"])
    return write_bag_shards(bags, shards, options.out, executor, options.frames)


def describe(summary: ShardsSummary, options: PrepareOptions) -> str:
    """Return what was written, as lines of text."""
    rate = summary.new_frames / summary.seconds if summary.seconds else 0.0
    mean_mb = summary.size_bytes / max(summary.frames, 1) / 1e6
    lines = [
        f"{count_of(summary.frames, 'frame')} in {count_of(summary.shards, 'shard')}, "
        f"{summary.size_bytes / 1e9:.3f} GB ({mean_mb:.2f} MB a frame), in {options.out}",
        f"{summary.new_frames} of them written now, {rate:.1f} frames/s"
        if summary.new_frames
        else "all of them were there already",
    ]
    if summary.dropped:
        dropped = count_of(summary.dropped, "frame of the source was", "frames of the source were")
        lines.append(f"{dropped} left out, see the warnings")
    if summary.failed:  # why was said when they were tried
        lines.append(f"left out: {', '.join(summary.failed)}")
        lines.append("mend these bags and run the same command again, or train without them")
    if options.part is not None and Share.parse(options.part).count > 1:
        lines.append(
            f"this was part {options.part}; once all parts are done, the same command without "
            "--part writes the index"
        )
        return "\n".join(lines)
    out = shlex.quote(options.out)
    lines.append(f"look at them:   lemumo prepare stats {out}")
    lines.append(f"train on them:  lemumo pretrain --data {out}")
    return "\n".join(lines)


def stats(
    root: str, *, out: str | None = None, tiles: int = 24, classes: str | None = None
) -> None:
    """Print what shards hold; write it, and a picture, beside them.

    Args:
        root: folder of shards, or its URI.
        out: folder for stats.json and contact_sheet.png, or its URI; by default the shards' own.
        tiles: frames in the picture.
        classes: class file of the model to train, or the name of a shipped one: which labels it
            does not know.
    """
    source = Shards(root)
    folder = open_folder(root if out is None else out)
    folder.check()
    found = statistics(source, None if classes is None else read_classes(classes))
    print(report(found))
    _, picture = cv2.imencode(".png", contact_sheet(source, tiles)[..., ::-1])
    with disk_errors_named(folder):
        folder.write("stats.json", (json.dumps(found, indent=1) + "\n").encode())
        folder.write("contact_sheet.png", picture.tobytes())
    print(f"written: {folder}/stats.json, {folder}/contact_sheet.png")


def main(arguments: list[str]) -> int:
    """Run ``lemumo prepare``; return its exit code."""
    if arguments[:1] == ["stats"]:
        return run_function(f"{PROG} stats", stats, arguments[1:])
    code = help_without_source(__doc__, arguments)
    return guarded(PROG, lambda: prepare(arguments)) if code is None else code
