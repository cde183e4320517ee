"""Shards of many bags: a folder of shards for each, and an index of all of them.

index.json        that of ``shards``, over the shards of all bags
BAG/index.json    the same of one bag
BAG/bag.json      what the shards were made from; written last, so that it marks a finished bag

A bag is written by one worker, which also indexes it, or where there are fewer bags than workers by
all of them. Bags that are added later leave the others as they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lemumo_core.bags.named_bags import Bag
from lemumo_core.data.frame_records import VERSION
from lemumo_core.data.shard_writer import (
    ShardsSummary,
    check_same,
    read_index,
    write_index,
    write_shards,
)
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.truth_by_stamp import Truth, TruthOptions, WithTruth
from lemumo_core.executor.executor import Executor, SerialExecutor, Share
from lemumo_core.executor.pool import WORKER_FAULTS, TaskResult
from lemumo_core.executor.worker import check_shared
from lemumo_core.faults import Fault
from lemumo_core.files import DISK_ERRORS, disk_errors_named
from lemumo_core.folders.addresses import open_folder
from lemumo_core.folders.folder import Folder, at_once
from lemumo_core.progress import Progress

log = logging.getLogger(__name__)

DONE = "bag.json"


@dataclass(frozen=True)
class BagShardOptions:
    """The options that decide the shards of a bag.

    Attributes:
        bags: options of ``Bags`` but for its path.
        truth: labels instead of the bag's own.
        frames_per_shard, jpeg: as of ``write_shards``.
    """

    bags: dict[str, Any]
    truth: TruthOptions | None = None
    frames_per_shard: int = 128
    jpeg: int | None = None

    @cached_property
    def _truth(self) -> Truth | None:
        return None if self.truth is None else self.truth.open()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_truth"}

    def open(self, bag: Bag) -> FrameSource:
        """Open a bag, with its labels.

        Raises:
            Fault, OSError, ImportError: as ``Bags`` and ``truth_of_source``.
        """
        source = Bags(bag.files, **self.bags)
        return source if self._truth is None else WithTruth(source, self._truth)

    def key(self, bag: Bag, frames: int | None) -> dict[str, Any]:
        """Return all that the shards of a bag depend on, as JSON values."""
        key = {"version": VERSION, **asdict(self), "frames": frames, "bag": bag.fingerprint()}
        found: dict[str, Any] = json.loads(json.dumps(key, default=_json_value))
        return found


@dataclass(frozen=True)
class _BagTask:
    """A bag to be written, the first ``frames`` of it or all."""

    bag: Bag
    frames: int | None

    def __str__(self) -> str:
        return self.bag.name


def write_bag_shards(
    bags: Sequence[Bag],
    options: BagShardOptions,
    out: str | Path | Folder,
    executor: Executor,
    frames: int | None = None,
) -> ShardsSummary:
    """Write bags as shards; those that are there, made from the same, are kept.

    Args:
        bags: in the order of their frames.
        options: what decides the shards.
        out: folder, or its URI (s3, gs).
        executor: workers. Of a share of the work no index is written.
        frames: take only the first so many of all; by default all.

    Returns:
        The summary; bags that cannot be read are among ``failed``.

    Raises:
        Fault: ``other_shards`` where ``out`` holds other shards, or the same bags with other
            options; ``bad_output``; ``worker_lost``; ``bad_bag`` where none of several can be read,
            and why a single one cannot.
    """
    out = open_folder(out)
    out.check()
    started = time.monotonic()
    with disk_errors_named(out):
        tasks = [_BagTask(bag, count) for bag, count in _limits(bags, options, frames)]
        finished = _finished(out, tasks, options)
        out.create()
        share = executor.share.of(tasks)
        todo = [task for task in share if task.bag.name not in finished]
        new_frames = 0
        errors: dict[str, Exception] = {}
        for task, value, where in _written(todo, options, out, executor):
            if isinstance(value, Exception):
                if len(share) == 1:
                    raise value
                log.warning("%s%s is left out: %s", task, where, value)
                errors[task.bag.name] = value
            else:
                new_frames += value
        names = [task.bag.name for task in share if task.bag.name not in errors]
        if errors and not names:
            raise Fault("bad_bag", f"none of {len(errors)} bags can be read; why was said of each")
        failed = {name: str(error) for name, error in sorted(errors.items())}
        indices = at_once(lambda name: read_index(out / name), names)
        index = merged_index(dict(zip(names, indices, strict=True)), failed)
        if executor.share.is_all:
            write_index(out, index)
    return ShardsSummary(
        frames=index["frames"],
        shards=len(index["shards"]),
        size_bytes=sum(one["bytes"] for one in index["shards"]),
        dropped=index["dropped"],
        new_frames=new_frames,
        seconds=time.monotonic() - started,
        failed=failed,
    )


def merged_index(indices: dict[str, dict[str, Any]], failed: dict[str, str]) -> dict[str, Any]:
    """Return the index over the folders of several bags.

    Args:
        indices: by name of the bag.
        failed: bags that are left out, and why.
    """
    described = [one["configuration"] for one in indices.values()]
    sources = [one["source"] for one in described]
    bags = [bag for one in sources for bag in one["bags"]]
    source: dict[str, Any] = {**next(iter(sources), {}), "bags": bags}
    for count in ("frames", "unmatched_companions"):
        source[count] = sum(one[count] for one in sources)
    configuration = {**next(iter(described), {}), "source": source}
    configuration["frames"] = sum(one["frames"] for one in described)
    return {
        "configuration": configuration,
        "frames": sum(one["frames"] for one in indices.values()),
        "dropped": sum(one["dropped"] for one in indices.values()),
        "shards": [
            {**shard, "name": f"{name}/{shard['name']}"}
            for name, one in indices.items()
            for shard in one["shards"]
        ],
        "bags_left_out": failed,
    }


@dataclass(frozen=True)
class _Writing:
    """Sets a worker up to write bags."""

    options: BagShardOptions
    out: Folder

    def __call__(self) -> Callable[[_BagTask], int | Exception]:
        check_shared(self.out)
        return self.write

    def write(self, task: _BagTask, executor: Executor | None = None) -> int | Exception:
        """Write a bag, unless another host has done so.

        Returns:
            How many frames were written, or why the bag cannot be read.
        """
        options, folder = self.options, self.out / task.bag.name
        key = options.key(task.bag, task.frames)
        if folder.read_json(DONE) == key:
            return 0
        try:
            summary = write_shards(
                options.open(task.bag),
                folder,
                task.frames,
                options.frames_per_shard,
                options.jpeg,
                executor or SerialExecutor(),
            )
        except (Fault, OSError) as error:
            if _ends_all(error):
                raise
            return error
        folder.write(DONE, f"{json.dumps(key, indent=1, sort_keys=True)}\n".encode())
        return summary.new_frames


def _written(
    todo: Sequence[_BagTask], options: BagShardOptions, out: Folder, executor: Executor
) -> Iterator[TaskResult[_BagTask]]:
    """Write the bags and yield what ``_Writing.write`` returns of each."""
    writing = _Writing(options, out)
    if executor.shares_out(len(todo)):
        with (
            executor.pool(writing, one_thread=True) as pool,
            Progress(out.name, len(todo)) as progress,
        ):
            for result in pool.map(todo):
                progress.advance()
                yield result
        return
    everyone = replace(executor, share=Share())
    for task in todo:
        yield TaskResult(task, writing.write(task, everyone), "")


def _limits(
    bags: Sequence[Bag], options: BagShardOptions, frames: int | None
) -> list[tuple[Bag, int | None]]:
    """Return the bags with how many of their frames are taken; None is all."""
    if frames is None:
        return [(bag, None) for bag in bags]
    if frames < 1:
        raise Fault("bad_option", f"frames = {frames} must be at least 1")
    taken: list[tuple[Bag, int | None]] = []
    for bag in bags:
        count = min(frames, len(options.open(bag)))
        taken.append((bag, count))
        frames -= count
        if not frames:
            break
    return taken


def _finished(out: Folder, tasks: Sequence[_BagTask], options: BagShardOptions) -> set[str]:
    """Return the names of the bags that are written; check that none was with other options."""
    index = read_index(out)
    if any("/" not in shard.get("name", "") for shard in index.get("shards", [])):
        raise Fault("other_shards", f"{out} holds the shards of something else: take another --out")
    keys = at_once(lambda task: (out / task.bag.name).read_json(DONE), tasks)
    finished = set()
    for task, there in zip(tasks, keys, strict=True):
        if there is not None:
            check_same(out / task.bag.name, there, options.key(task.bag, task.frames))
            finished.add(task.bag.name)
    return finished


def _ends_all(error: Exception) -> bool:
    """Return whether an error is of the output or the options, and not of a bag."""
    if isinstance(error, Fault):
        return error.reason in ("bad_output", "bad_option", "other_shards", *WORKER_FAULTS)
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _json_value(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
