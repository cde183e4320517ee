"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lemumo_core.data.shard_plan import differences
from lemumo_core.faults import Fault
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.learner import Learner, NonFinite
from lemumo_core.train.loader import (
    FrameOrder,
    Samples,
    cut_views,
    frame_order,
    open_data,
    samples_of,
    training_batches,
)
from lemumo_core.train.parallel import Place, any_rank, from_first, ranks, wait_for_all
from lemumo_core.train.run_config import RunConfig, from_plain, identity, plain
from lemumo_core.train.run_log import RunLog
from lemumo_core.train.signals import REQUEUE, StopRequest, stop_request

log = logging.getLogger(__name__)

DONE, NOT_FINITE = 0, 3
"""Exit codes, beside ``signals.REQUEUE``."""


@dataclass(frozen=True)
class Run:
    """A run that has begun.

    Attributes:
        config: of the run.
        out: its folder.
        place: of this process.
        samples: of all frames; those held out come last.
        order: of the others.
    """

    config: Any
    out: Path
    place: Place
    samples: Samples
    order: FrameOrder

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return int(self.config.total_steps(self.order.frames))


class Task(NamedTuple):
    """A kind of training.

    Attributes:
        config: the class of its options.
        learner: makes what learns; without the weights to start from.
        conclude: sums a finished run up, given the weights, and says for people what came of it.
            The first rank calls it, alone.
    """

    config: type[RunConfig]
    learner: Callable[[Run], Learner]
    conclude: Callable[[Run, Mapping[str, Tensor]], str]


def train(task: Task, config: RunConfig) -> int:
    """Run, or go on with, a run.

    Returns:
        Exit code: ``DONE``, ``REQUEUE`` after a signal, ``NOT_FINITE``.

    Raises:
        Fault, FileNotFoundError, ImportError: for what the configuration asks for and is not
            there, or does not fit; the message says what to do.
    """
    with stop_request() as stop:
        with ranks(config.batch) as place:
            out = Path(from_first(config.out or run_folder.new_name(config.program)))
            config = replace(config, out=str(out))
            found = _resumed(config, out, place)
            first = found.state["step"] if found else 0
            if place.first:
                run_folder.claim(out, config)
            run = _begun(config, out, place)
            if found:
                _check_same_run(run, found)
            if place.first:
                run_folder.begin(out, config, place.world, first)
            learner = task.learner(run)
            if found:
                learner.restore(found)
            elif config.weights is not None:
                learner.load(Path(config.weights))
            code = _train(learner, run, first, stop)
            weights = learner.weights()
        if code == DONE and place.first:
            print(task.conclude(run, weights))
        return code


def _train(learner: Learner, run: Run, first: int, stop: StopRequest) -> int:
    config, place, order, out, steps = run.config, run.place, run.order, run.out, run.steps
    run_log = None
    if place.first:
        every, tensorboard = config.log.progress_every, config.log.tensorboard
        run_log = RunLog(out, first, steps, config.batch, every, tensorboard)
    try:
        coming = training_batches(config, run.samples, order, first, place.rank, place.world)
        for step in range(first, steps):
            before = time.monotonic()
            batch = next(coming).to(place.device, non_blocking=True)
            waited_s = time.monotonic() - before
            views = cut_views(batch, config, step, place.rank, place.world)
            try:
                values = learner.learn(views, step)
            except NonFinite as trouble:
                _capture(learner, run, step, trouble)
                return NOT_FINITE
            if run_log:
                run_log.waited(waited_s)
                run_log.write(step, values)
            stopping = any_rank(bool(stop), place.device)
            if stopping or step + 1 == steps or (step + 1) % config.log.checkpoint_every == 0:
                _save(learner, run, step + 1)
            if stopping and step + 1 < steps:
                name = stop.signal.name if stop.signal else "another rank's signal"
                log.warning(
                    "stopped by %s after step %d and saved: --resume auto goes on; exit code %d",
                    *(name, step + 1, REQUEUE),
                )
                return REQUEUE
    finally:
        if run_log:
            run_log.close()
    return DONE


def _save(learner: Learner, run: Run, step: int) -> None:
    tensors = learner.tensors()
    if run.place.first:
        root = run.out / run_folder.CHECKPOINTS
        folder = checkpoint.checkpoint_folder(root, step)
        checkpoint.save(folder, tensors, _state(run, step))
        checkpoint.prune(root, run.config.log.keep)
    wait_for_all()


def _state(run: Run, step: int) -> dict[str, Any]:
    return {
        "step": step,
        "frames": run.order.frames,
        "ranks": run.place.world,
        "config": plain(run.config),
    }


def _capture(learner: Learner, run: Run, step: int, trouble: NonFinite) -> None:
    """Write all that the step needs to be repeated."""
    weights = learner.weights()
    if run.place.first:
        folder = run.out / f"non_finite-{step:08d}"
        values = {name: repr(value) for name, value in trouble.values.items()}
        state = _state(run, step) | {"values": values, "batch": run.order[step]}
        checkpoint.save(folder, {checkpoint.MODEL: weights}, state)
        log.error(
            "step %d is %s; stopped before the optimiser's step. Repeat it with\n"
            "    python training/%s.py --replay %s",
            *(step + 1, trouble, run.config.program, folder),
        )


def replay(task: Task, folder: Path) -> dict[str, tuple[str, str]]:
    """Repeat a captured step, on one rank.

    Returns:
        By name, the value then and now, as text.

    Raises:
        Fault: ``bad_checkpoint``; or as ``open_data``.
    """
    captured = checkpoint.open_checkpoint(folder)
    config = from_plain(task.config, captured.state["config"])
    step = captured.state["step"]
    with ranks(config.batch) as place:
        run = _begun(config, Path(str(config.out)), place)
        learner = task.learner(run)
        learner.load(folder)
        workers = replace(config, scale=replace(config.scale, workers=0))
        batch = next(training_batches(workers, run.samples, run.order, step, 0, 1))
        views = cut_views(batch.to(place.device), config, step, 0, 1)
        try:
            values = learner.learn(views, step)
        except NonFinite as trouble:
            values = trouble.values
    then = captured.state["values"]
    return {name: (then[name], repr(values[name])) for name in then}


def _resumed(config: RunConfig, out: Path, place: Place) -> Checkpoint | None:
    """The checkpoint to go on from: the one that rank 0 finds."""
    if config.resume is None:
        return None
    found = checkpoint.newest(out / run_folder.CHECKPOINTS) if place.first else None
    path = from_first(str(found.path) if found else "")
    return checkpoint.open_checkpoint(Path(path)) if path else None


def _check_same_run(run: Run, found: Checkpoint) -> None:
    config, place = run.config, run.place
    there, here = (
        identity(values, config.free) for values in (found.state["config"], plain(config))
    )
    changed = differences(
        there | {"frames": found.state["frames"]}, here | {"frames": run.order.frames}
    )
    if changed:
        raise Fault(
            "other_run",
            f"{found.path} is of another run ({'; '.join(changed)}): resume with the same options, "
            f"or start a new run with --weights {found.path}",
        )
    if place.first:
        log.warning("going on from %s", found.path)
    if place.first and found.state["ranks"] != place.world:
        log.warning(
            "it was saved on %d ranks and goes on on %d. Frames, views, dropped paths and learning "
            "rate of every step stay the same; sums over the batch are taken in another order, so "
            "losses agree up to rounding and no longer bit for bit",
            *(found.state["ranks"], place.world),
        )


def _begun(config: RunConfig, out: Path, place: Place) -> Run:
    """The run with its data; what has to be written first is written by rank 0."""
    source = open_data(config, out) if place.first else None
    wait_for_all()
    source = source if source is not None else open_data(config, out)
    return Run(config, out, place, samples_of(config, source), frame_order(config, source))
