"""Writer of shards (``lemumo_core.data.shards``), in processes, resumable.

A shard is a pure function of the source, the configuration and its number, and appears under its
name at once and whole. Whatever stops the work, starting again gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from lemumo_core.data.arrow import pa
from lemumo_core.data.frame_records import SCHEMA, VERSION, record_from_frame
from lemumo_core.data.shard_plan import Plan
from lemumo_core.data.shards import INDEX, named, open_shard
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.statistics import empty_view
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.progress import Progress
from lemumo_core.signals import leave_signals_to_parent

log = logging.getLogger(__name__)

METADATA_KEY = b"lemumo"
OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
UNFINISHED = ".part"


@dataclass(frozen=True)
class ShardsSummary:
    """Contents of a folder of shards after ``write_shards``, and how much the call wrote.

    Attributes:
        frames, shards, size_bytes: all of them.
        dropped: frames of the source that were left out because they raised a Fault.
        new_frames: written by this call, in ``seconds``.
    """

    frames: int
    shards: int
    size_bytes: int
    dropped: int
    new_frames: int
    seconds: float


def write_shards(
    source: FrameSource,
    out: str | Path,
    frames: int | None = None,
    frames_per_shard: int = 128,
    jpeg: int | None = None,
    workers: int | None = None,
) -> ShardsSummary:
    """Write a source as shards.

    Worker processes are spawned, so that a program that calls this needs the guard
    ``if __name__ == "__main__"``.

    Args:
        source: what to write.
        out: folder of the shards; one that was begun with the same options is finished.
        frames: take only the first so many; by default all.
        frames_per_shard: the fewer, the less is lost when the work is stopped.
        jpeg: quality, 1 to 100, of lossy images (90 is usual); by default images are exact.
        workers: processes; by default one a CPU. Does not change what is written.

    Frames that raise a Fault are left out, logged and counted.

    Raises:
        Fault: ``other_shards`` where ``out`` was begun with other options, naming them;
            ``bad_option``; ``no_frames`` where no frame is left; ``bad_output``, also where the
            disk is full; ``worker_failed`` where a worker died. What is finished stays.
        OSError, ImportError: as the source.
    """
    out = Path(out)
    check_output(out)
    plan = Plan.make(source, frames, frames_per_shard, jpeg)
    if workers is not None and workers < 1:
        raise Fault("bad_option", f"workers = {workers} must be at least 1")
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        done = _finished(out, plan)
        todo = [k for k in range(plan.shards) if k not in done]
        with Progress(out.name, plan.frames, sum(len(plan.rows(k)) for k in done)) as progress:
            if todo:
                workers = workers or os.cpu_count() or 1
                _write_in_processes(source, plan, out, todo, workers, progress)
        index = _write_index(out, plan)
    for part in out.glob(f"*{UNFINISHED}"):  # of work that was killed
        part.unlink(missing_ok=True)
    return ShardsSummary(
        frames=index["frames"],
        shards=plan.shards,
        size_bytes=sum(shard["bytes"] for shard in index["shards"]),
        dropped=index["dropped"],
        new_frames=progress.new,
        seconds=progress.elapsed_s,
    )


def write_shard(source: FrameSource, plan: Plan, shard: int, out: Path) -> Iterator[str | None]:
    """Write one shard; yield after every frame: None, why it was left out, or what is odd of it."""
    about = json.dumps({"configuration": plan.configuration, "shard": shard}, sort_keys=True)
    schema = SCHEMA.with_metadata({METADATA_KEY: about})
    with (
        _appearing_whole(out / plan.name(shard)) as file,
        pa.ipc.new_file(file, schema, options=OPTIONS) as writer,
    ):
        for row in plan.rows(shard):
            try:
                frame = source[row]
                record = record_from_frame(frame, plan.configuration["jpeg"])
            except Fault as fault:
                yield f"frame {row} is left out ({fault.reason}): {fault}"
                continue
            writer.write_batch(record)
            is_first = row == plan.rows(shard)[0]  # which shows what all have in common
            odd = empty_view(frame) if is_first else ""
            yield f"frame {row}: {odd}" if odd else None


@contextmanager
def _appearing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name only when it is complete and on the disk."""
    part = path.with_name(f"{path.stem}-{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _finished(out: Path, plan: Plan) -> set[int]:
    """Return the numbers of the shards that are there; damaged ones are deleted."""
    done = set()
    for path in sorted(out.glob("shard-*.arrow")):
        try:
            about = json.loads((open_shard(path).schema.metadata or {})[METADATA_KEY])
        except (pa.ArrowException, ValueError, KeyError) as error:
            log.warning("%s is damaged and will be written again: %s", path, error)
            path.unlink()
            continue
        if different := plan.differences(about["configuration"]):
            raise Fault(
                "other_shards",
                f"{out} was begun with other options ({'; '.join(different)}); take another "
                "folder, or the same options",
            )
        done.add(about["shard"])
    return done


def _write_index(out: Path, plan: Plan) -> dict[str, Any]:
    shards = []
    for shard in range(plan.shards):
        path = out / plan.name(shard)
        with named(path.name, out):
            frames = open_shard(path).num_record_batches
        shards.append({"name": path.name, "frames": frames, "bytes": path.stat().st_size})
    frames = sum(shard["frames"] for shard in shards)
    if not frames:
        raise Fault("no_frames", f"all {plan.frames} frames were left out; see the log")
    index = {
        "version": VERSION,
        "configuration": plan.configuration,
        "frames": frames,
        "dropped": plan.frames - frames,
        "shards": shards,
    }
    with _appearing_whole(out / INDEX) as file:
        file.write((json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
    return index


def _write_in_processes(
    source: FrameSource, plan: Plan, out: Path, todo: list[int], workers: int, progress: Progress
) -> None:
    """Write shards in processes; worker w takes every workers-th one.

    Each frame, or the error that ends a worker, is reported through a pipe, whose closing shows
    either side that the other is gone, however it ended.
    """
    context = multiprocessing.get_context("spawn")  # sources may have used torch, which hates fork
    running: dict[Connection, BaseProcess] = {}
    try:
        for w in range(min(workers, len(todo))):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (theirs, source, plan, out, todo[w::workers])
            running[ours] = context.Process(target=_work, args=arguments, daemon=True)
            running[ours].start()
            theirs.close()
        while running:
            ready: list[Any] = wait(running)
            for pipe in ready:
                try:
                    note = pipe.recv()
                except EOFError:
                    process = running.pop(pipe)
                    process.join()
                    if process.exitcode:
                        raise Fault(
                            "worker_failed",
                            f"a worker failed (exit {process.exitcode}; see above); what is "
                            f"finished stays in {out}, run again to go on",
                        ) from None
                    continue
                if isinstance(note, Exception):
                    raise note
                if note is not None:
                    log.warning(note)
                progress.advance()
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _work(pipe: Connection, source: FrameSource, plan: Plan, out: Path, todo: list[int]) -> None:
    """Run a worker, which reports every frame, and the error that ends it."""
    leave_signals_to_parent()
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    try:
        with disk_errors_named(out):
            for shard in todo:
                for note in write_shard(source, plan, shard, out):
                    pipe.send(note)
    except BrokenPipeError:  # the parent was killed
        return
    except (Fault, OSError, ImportError) as error:
        pipe.send(error)
