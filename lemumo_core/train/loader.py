"""The data path of training: which frames, and from where.

All of it is a function of the seed and the step. Frames are read at random by worker processes; a
rank takes its share of the whole batch, so that batches do not depend on how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from lemumo_core.data.mixture import Mixture, Subset, by_member
from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.members import Member, members_of
from lemumo_core.data.sources.registry import mixture_of, named_source, open_member
from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec, check_input
from lemumo_core.signals import leave_signals_to_parent
from lemumo_core.taxonomy import Taxonomy
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.run_config import RunConfig
from lemumo_core.train.selection import select_frames

FRAMES_PER_DRIVE = 4
"""How many frames a rendered street has by default: few, so that streets are many."""
DYING_S = 2.0
"""A worker whose connection broke may take so long to die, on a busy machine."""


def open_data(config: RunConfig, out: Path) -> FrameSource:
    """Open the sources that a run trains on; a slow one is first written as shards.

    The frames for validation come last.

    Raises:
        Fault: as ``members_of``, ``open_source``, ``write_shards`` and ``select_frames``;
            ``wrong_companion`` and ``no_input``, naming a member that the model does not take.
        FileNotFoundError: as the source.
    """
    members = members_of(config.data, config.data_options)
    is_one_of_several = len(members) > 1
    opened = [_open(config, member, is_one_of_several) for member in members]
    # Rendering takes minutes: a source that is not there is named before.
    sources = [
        _as_shards(config, member, source, out, str(number) if is_one_of_several else "")
        for number, (member, source) in enumerate(zip(members, opened, strict=True))
    ]
    source = mixture_of(members, sources)
    if isinstance(source, Mixture):
        for member in by_member(source):
            try:
                check_input(source[member.frames[0]], config.canvas_spec)
            except Fault as fault:
                raise Fault(fault.reason, f"--data {member.name}: {fault}") from None
    selection = select_frames(source, config)
    frames = [*selection.trained, *selection.validation]
    return source if frames == list(range(len(source))) else Subset(source, frames)


def _open(config: RunConfig, member: Member, is_one_of_several: bool) -> FrameSource:
    """Open one of the sources of a run."""
    canvas: InputSpec = config.canvas_spec
    name, _ = named_source(member.data)
    defaults: dict[str, Any] = {}
    if name == "synthetic":
        size = {"height": canvas.height, "width": canvas.width, "companion": canvas.companion}
        drives = {"frames": config.rendered_frames, "frames_per_drive": FRAMES_PER_DRIVE}
        defaults = {**drives, **size}
    elif name == "shards":
        defaults = {"at_least": (canvas.height, canvas.width)}
    return open_member(member, is_one_of_several, **defaults)


def _as_shards(
    config: RunConfig, member: Member, source: FrameSource, out: Path, folder: str
) -> FrameSource:
    """Write a source that is slow, or is to be cached, as shards into a folder of the cache."""
    cache = Path(config.frame_cache) if config.frame_cache is not None else None
    if cache is None and member.data == "synthetic":
        cache = out / "frames"
    if cache is None:
        return source
    write_shards(source, str(cache / folder), frames_per_shard=8)
    return Shards(str(cache / folder))


class Samples(Dataset[Batch]):
    """Frames of a source as samples.

    Args:
        source: of the frames.
        canvas: what they are put on.
        classes: those that labels become; without them, samples carry no labels.
        points: whether samples carry the whole sweep.
        beams: whether they carry the beam of each return.
    """

    def __init__(
        self,
        source: FrameSource,
        canvas: InputSpec,
        classes: Taxonomy | None,
        points: bool = False,
        beams: bool = False,
    ):
        self.source, self.canvas, self.classes = source, canvas, classes
        self.points, self.beams = points, beams

    def __getitem__(self, index: int) -> Batch:
        """Return one sample; a Fault names its frame."""
        try:
            frame = self.source[index]
            return sample(frame, self.canvas, self.classes, self.points, self.beams)
        except Fault as fault:
            advice = "shards of lemumo prepare leave such frames out"
            raise Fault(fault.reason, f"frame {index}: {fault}; {advice}") from fault


def samples_of(config: RunConfig, source: FrameSource) -> Samples:
    """Return the samples of a run, with what it needs."""
    classes = config.model.classes if config.needs.labels else None
    needs = config.needs
    return Samples(source, config.canvas_spec, classes, needs.points, needs.beams)


class _Read(Dataset[Batch]):
    """Batches by the numbers of their frames; what went wrong while reading one is returned.

    torch raises an exception of a worker as another one, without its reason.
    """

    def __init__(self, samples: Samples):
        self.samples = samples

    def __getitem__(self, indices: Any) -> Any:
        try:
            return collate([self.samples[index] for index in indices])
        except (Fault, OSError, ImportError) as error:
            return error


@contextmanager
def batches(
    samples: Samples, indices: Iterable[list[int]], workers: int, pin: bool
) -> Iterator[Iterator[Batch]]:
    """Read the batches of lists of frames ahead, in worker processes that end with the block.

    Workers are spawned, which is safe beside CUDA and threads; a program that calls this needs
    the guard ``if __name__ == "__main__"``.

    Raises:
        Fault: ``worker_died``; in the block, on a batch: as its frames.
        OSError, ImportError: in the block, likewise.
    """
    loader = iter(
        DataLoader(
            _Read(samples),
            batch_size=None,
            sampler=indices,
            collate_fn=_unchanged,
            num_workers=workers,
            pin_memory=pin,
            worker_init_fn=_start_worker if workers else None,
            multiprocessing_context="spawn" if workers else None,
        )
    )
    try:
        yield _raising(loader)
    except (RuntimeError, EOFError, ConnectionError) as error:
        if not workers or not _has_died(_processes(loader)):
            raise
        raise Fault(
            "worker_died",
            "a process that loads data died: the kernel ends one where memory is short, which "
            f"fewer --scale.workers or a smaller --batch need less of ({error})",
        ) from error
    finally:
        _end(loader)


def _raising(outcomes: Iterable[Any]) -> Iterator[Batch]:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def _processes(loader: Any) -> list[Any]:
    return getattr(loader, "_workers", [])


def _has_died(processes: list[Any]) -> bool:
    """Return whether one has died; its connections break an instant before it is seen as dead."""
    ending = connection.wait([process.sentinel for process in processes], DYING_S)
    for process in processes:
        if process.sentinel in ending:
            process.join(DYING_S)
    return any(not process.is_alive() for process in processes)


def _end(loader: Any) -> None:
    """End the workers now: torch does so when the loader is deleted, which a traceback delays."""
    if processes := _processes(loader):
        with suppress(RuntimeError):  # torch's handler of SIGCHLD names a dead worker once more
            loader._shutdown_workers()
        for process in processes:  # one that still reads; it ignores torch's SIGTERM
            process.kill()


def _unchanged(outcome: Any) -> Any:
    return outcome


def _start_worker(_: int) -> None:
    leave_signals_to_parent()
    cv2.setNumThreads(1)


def training_batches(
    config: RunConfig, samples: Samples, sampler: BatchSampler, first: int, rank: int, world: int
) -> AbstractContextManager[Iterator[Batch]]:
    """Read a rank's share of the batches of steps ``first``, ``first + 1`` ... (``batches``)."""
    steps = range(first, config.total_steps(sampler.draws))
    share = config.batch // world
    mine = slice(rank * share, (rank + 1) * share)
    indices = (sampler[step][mine] for step in steps)
    return batches(samples, indices, config.scale.workers, torch.cuda.is_available())
