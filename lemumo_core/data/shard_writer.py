"""Writer of shards (``lemumo_core.data.shards``), by any number of workers and hosts, resumable.

A shard is a pure function of the source, the configuration and its number, and appears under its
name at once and whole. Whatever stops the work, starting again gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lemumo_core.data.arrow import pa
from lemumo_core.data.frame_records import SCHEMA, VERSION, record_from_frame
from lemumo_core.data.shard_plan import Plan
from lemumo_core.data.shards import INDEX, named, shard_reader
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.statistics import empty_view
from lemumo_core.executor.executor import Executor, LocalExecutor
from lemumo_core.executor.worker import check_shared
from lemumo_core.faults import Fault, differences, indented
from lemumo_core.files import disk_errors_named
from lemumo_core.folders.addresses import open_folder
from lemumo_core.folders.folder import Folder, at_once
from lemumo_core.progress import Progress

log = logging.getLogger(__name__)

METADATA_KEY = b"lemumo"
SHARD = re.compile(r"shard-\d+\.arrow")
FRAMES_PER_SHARD = 128
OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)


@dataclass(frozen=True)
class ShardsSummary:
    """Contents of a folder of shards, and how much the call wrote.

    Attributes:
        frames, shards, size_bytes: all of them; of a share of the work, those of the share.
        dropped: frames of the source that were left out because they raised a Fault.
        new_frames: written by this call, in ``seconds``.
        failed: bags that are left out, by name, and why.
    """

    frames: int
    shards: int
    size_bytes: int
    dropped: int
    new_frames: int
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)


def write_shards(
    source: FrameSource,
    out: str | Path | Folder,
    frames: int | None = None,
    frames_per_shard: int = FRAMES_PER_SHARD,
    jpeg: int | None = None,
    workers: int | Executor | None = None,
) -> ShardsSummary:
    """Write a source as shards.

    Worker processes are spawned, so that a program that calls this needs the guard
    ``if __name__ == "__main__"``.

    Args:
        source: what to write.
        out: folder of the shards, or its URI (s3, gs); one that was begun with the same options is
            finished.
        frames: take only the first so many; by default all.
        frames_per_shard: the fewer, the less is lost when the work is stopped.
        jpeg: quality, 1 to 100, of lossy images (90 is usual); by default images are exact.
        workers: processes, by default one a core, or what makes them. Does not change what is
            written. Of a share of the work no index is written, which whoever writes all does.

    Frames that raise a Fault are left out, logged and counted.

    Raises:
        Fault: ``other_shards`` where ``out`` was begun with other options, naming them;
            ``bad_option``; ``no_frames`` where no frame is left; ``bad_output``, also where the
            disk is full; ``worker_lost`` as ``Pool.map``. What is finished stays.
        OSError, ImportError: as the source.
    """
    out = open_folder(out)
    out.check()
    plan = Plan.make(source, frames, frames_per_shard, jpeg)
    executor = workers if isinstance(workers, Executor) else LocalExecutor(workers)
    with disk_errors_named(out):
        out.create()
        done = _finished(out, plan)
        shards = executor.share.of(range(plan.shards))
        todo = [k for k in shards if k not in done]
        there = sum(len(plan.rows(k)) for k in shards) - sum(len(plan.rows(k)) for k in todo)
        total = sum(len(plan.rows(k)) for k in shards)
        with Progress(out.name, total, there) as progress:
            if todo:
                with executor.pool(_Writing(source, plan, out), one_thread=True) as pool:
                    for result in pool.map(todo, name=plan.name):
                        for note in result.value:
                            log.warning(note)
                        progress.advance(len(plan.rows(result.task)))
        entries = _entries(out, plan, shards)
        if executor.share.is_all:
            _write_index(out, plan, entries)
    written = sum(entry["frames"] for entry in entries)
    return ShardsSummary(
        frames=written,
        shards=len(entries),
        size_bytes=sum(entry["bytes"] for entry in entries),
        dropped=total - written,
        new_frames=progress.new,
        seconds=progress.elapsed_s,
    )


def check_shards(source: FrameSource, out: Folder, jpeg: int | None = None) -> None:
    """Check that ``write_shards`` could begin or go on, before work whose results it writes.

    Raises:
        Fault: ``other_shards``, ``bad_option`` and ``no_frames``, as there.
    """
    _finished(out, Plan.make(source, None, FRAMES_PER_SHARD, jpeg))


@dataclass(frozen=True)
class _Writing:
    """Sets a worker up to write shards."""

    source: FrameSource
    plan: Plan
    out: Folder

    def __call__(self) -> Callable[[int], list[str]]:
        check_shared(self.out)
        return self._write

    def _write(self, shard: int) -> list[str]:
        """Write a shard, unless another host has done so; return what is to be said of it."""
        if self.out.has(self.plan.name(shard)):
            return []
        with disk_errors_named(self.out):
            return write_shard(self.source, self.plan, shard, self.out)


def write_shard(source: FrameSource, plan: Plan, shard: int, out: Folder) -> list[str]:
    """Write one shard; return which frames were left out and why, and what is odd of them."""
    notes = []
    about = json.dumps({"configuration": plan.configuration, "shard": shard}, sort_keys=True)
    schema = SCHEMA.with_metadata({METADATA_KEY: about})
    with (
        out.writing(plan.name(shard)) as file,
        pa.ipc.new_file(file, schema, options=OPTIONS) as writer,
    ):
        for row in plan.rows(shard):
            try:
                frame = source[row]
                record = record_from_frame(frame, plan.configuration["jpeg"])
            except Fault as fault:
                notes.append(f"frame {row} is left out ({fault.reason}): {fault}")
                continue
            writer.write_batch(record)
            is_first = row == plan.rows(shard)[0]  # which shows what all have in common
            if odd := empty_view(frame) if is_first else "":
                notes.append(f"frame {row}: {odd}")
    return notes


def _finished(out: Folder, plan: Plan) -> set[int]:
    """Return the numbers of the shards that are there; damaged ones are deleted."""
    done = set()
    check_same(out, read_index(out).get("configuration", plan.configuration), plan.configuration)
    names = sorted(name for name in out.names() if SHARD.fullmatch(name))
    for name, about in zip(names, at_once(partial(_about, out), names), strict=True):
        if isinstance(about, Exception):
            log.warning("%s is damaged and will be written again: %s", out / name, about)
            out.delete(name)
            continue
        check_same(out, about["configuration"], plan.configuration)
        done.add(about["shard"])
    return done


def _about(out: Folder, name: str) -> dict[str, Any] | Exception:
    """Return what a shard was made from, or why it cannot be read."""
    try:
        about: dict[str, Any] = json.loads(
            (shard_reader(out.open(name)).schema.metadata or {})[METADATA_KEY]
        )
    except (pa.ArrowException, json.JSONDecodeError, KeyError) as error:
        return error
    return about


def check_same(out: Folder, there: Any, here: Any) -> None:
    """Check that what a folder was begun with is what is asked for.

    Raises:
        Fault: ``other_shards``, naming what differs.
    """
    if different := differences(there, here):
        raise Fault(
            "other_shards",
            f"{out} was begun with other options:{indented(different)}"
            "take another folder, or the same options",
        )


def read_index(out: Folder) -> dict[str, Any]:
    """Return the index of a folder of shards; empty where there is none that can be read."""
    index = out.read_json(INDEX)
    return index if isinstance(index, dict) else {}


def _entries(out: Folder, plan: Plan, shards: Sequence[int]) -> list[dict[str, Any]]:
    """Return what the index says of finished shards."""

    def entry(shard: int) -> dict[str, Any]:
        name = plan.name(shard)
        with named(name, str(out)), out.open(name) as file:
            frames = shard_reader(file).num_record_batches
            return {"name": name, "frames": frames, "bytes": file.size()}

    return list(at_once(entry, shards))


def _write_index(out: Folder, plan: Plan, entries: list[dict[str, Any]]) -> None:
    frames = sum(entry["frames"] for entry in entries)
    if not frames:
        raise Fault("no_frames", f"all {plan.frames} frames were left out; see the log")
    write_index(
        out,
        {
            "configuration": plan.configuration,
            "frames": frames,
            "dropped": plan.frames - frames,
            "shards": entries,
        },
    )


def write_index(out: Folder, index: dict[str, Any]) -> None:
    """Write the index of a folder of shards; ``version`` is added."""
    text = json.dumps({"version": VERSION, **index}, indent=1, sort_keys=True)
    out.write(INDEX, f"{text}\n".encode())
