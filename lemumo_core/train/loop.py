"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.data.shard_plan import differences
from lemumo_core.faults import Fault
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.learner import Learner, NonFinite
from lemumo_core.train.loader import (
    BatchSampler,
    Samples,
    batch_sampler,
    open_data,
    samples_of,
    training_batches,
)
from lemumo_core.train.parallel import DistInfo, any_rank, from_first, ranks, wait_for_all
from lemumo_core.train.run_config import RunConfig, fingerprint, from_dict, to_dict
from lemumo_core.train.run_log import RunLog
from lemumo_core.train.signals import REQUEUE, StopRequest, stop_request

log = logging.getLogger(__name__)

DONE, NOT_FINITE = 0, 3
"""Exit codes, beside ``signals.REQUEUE``."""


@dataclass(frozen=True)
class Run:
    """A run with its data.

    Attributes:
        config: the configuration.
        out: the run's folder.
        dist: this process among the ranks.
        samples: samples of all frames; those for validation come last.
        sampler: batches of the others.
    """

    config: Any
    out: Path
    dist: DistInfo
    samples: Samples
    sampler: BatchSampler

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return int(self.config.total_steps(self.sampler.frames))


class Recipe(NamedTuple):
    """A kind of training.

    Attributes:
        config: class of the options.
        learner: builds the learner, without the weights to start from.
        finalize: writes the results of a finished run, given the weights, and returns a summary to
            print. The first rank calls it, alone.
    """

    config: type[RunConfig]
    learner: Callable[[Run], Learner]
    finalize: Callable[[Run, Mapping[str, Tensor]], str]


def train(task: Recipe, config: RunConfig) -> int:
    """Start a run, or go on with it.

    Returns:
        Exit code: ``DONE``, ``REQUEUE`` after a signal, ``NOT_FINITE``.

    Raises:
        Fault, FileNotFoundError, ImportError: for what the configuration asks for and is not
            there, or does not fit; the message says what to do.
    """
    with stop_request() as stop:
        with ranks(config.batch) as dist:
            out = Path(from_first(config.out or run_folder.new_name(config.program)))
            config = replace(config, out=str(out))
            found = _resumed(config, out, dist)
            first = found.state["step"] if found else 0
            if dist.first:
                run_folder.create(out, config)
            run = _open_run(config, out, dist)
            if found:
                _check_same_run(run, found)
            if dist.first:
                run_folder.write_header(out, config, dist.world, first)
            learner = task.learner(run)
            if found:
                learner.restore(found)
            elif config.weights is not None:
                learner.load(Path(config.weights))
            code = _train(learner, run, first, stop)
            weights = learner.weights()
        if code == DONE and dist.first:
            print(task.finalize(run, weights))
        return code


def _train(learner: Learner, run: Run, first: int, stop: StopRequest) -> int:
    config, dist, out, steps = run.config, run.dist, run.out, run.steps
    run_log = None
    if dist.first:
        every, tensorboard = config.log.progress_every, config.log.tensorboard
        run_log = RunLog(out, first, steps, config.batch, every, tensorboard)
    try:
        coming = training_batches(config, run.samples, run.sampler, first, dist.rank, dist.world)
        for step in range(first, steps):
            before = time.monotonic()
            batch: Batch = next(coming).to(dist.device, non_blocking=True)
            waited_s = time.monotonic() - before
            try:
                values = learner.learn(batch, step)
            except NonFinite as trouble:
                _capture(learner, run, step, trouble)
                return NOT_FINITE
            if run_log:
                run_log.waited(waited_s)
                run_log.write(step, values)
            stopping = any_rank(bool(stop), dist.device)
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
    if run.dist.first:
        root = run.out / run_folder.CHECKPOINTS
        folder = checkpoint.checkpoint_folder(root, step)
        checkpoint.save(folder, tensors, _state(run, step))
        checkpoint.prune(root, run.config.log.keep)
    wait_for_all()


def _state(run: Run, step: int) -> dict[str, Any]:
    return {
        "schema": checkpoint.SCHEMA,
        "step": step,
        "frames": run.sampler.frames,
        "ranks": run.dist.world,
        "config": to_dict(run.config),
    }


def _capture(learner: Learner, run: Run, step: int, trouble: NonFinite) -> None:
    """Write all that the step needs to be repeated."""
    weights = learner.weights()
    if run.dist.first:
        folder = run.out / f"non_finite-{step:08d}"
        values = {name: repr(value) for name, value in trouble.values.items()}
        state = _state(run, step) | {"values": values, "batch": run.sampler[step]}
        checkpoint.save(folder, {checkpoint.MODEL: weights}, state)
        log.error(
            "step %d is %s; stopped before the optimiser's step. Repeat it with\n"
            "    python training/%s.py --replay %s",
            *(step + 1, trouble, run.config.program, folder),
        )


def replay(task: Recipe, folder: Path) -> dict[str, tuple[str, str]]:
    """Repeat a captured step, on one rank.

    Returns:
        By name, the value then and now, as text.

    Raises:
        Fault: ``bad_checkpoint``; or as ``open_data``.
    """
    captured = checkpoint.open_checkpoint(folder)
    config = from_dict(task.config, captured.state["config"])
    step = captured.state["step"]
    with ranks(config.batch) as dist:
        run = _open_run(config, Path(str(config.out)), dist)
        learner = task.learner(run)
        learner.load(folder)
        workers = replace(config, scale=replace(config.scale, workers=0))
        batch = next(training_batches(workers, run.samples, run.sampler, step, 0, 1))
        try:
            values = learner.learn(batch.to(dist.device), step)
        except NonFinite as trouble:
            values = trouble.values
    then = captured.state["values"]
    return {name: (then[name], repr(values[name])) for name in then}


def _resumed(config: RunConfig, out: Path, dist: DistInfo) -> Checkpoint | None:
    """Return the checkpoint to go on from: the one that rank 0 finds."""
    if config.resume is None:
        return None
    found = checkpoint.newest(out / run_folder.CHECKPOINTS) if dist.first else None
    path = from_first(str(found.path) if found else "")
    return checkpoint.open_checkpoint(Path(path)) if path else None


def _check_same_run(run: Run, found: Checkpoint) -> None:
    config, dist = run.config, run.dist
    changes = config.resumable_changes
    there, here = (
        fingerprint(to_dict(values), changes)
        for values in (from_dict(type(config), found.state["config"]), config)
    )
    changed = differences(
        there | {"frames": found.state["frames"]}, here | {"frames": run.sampler.frames}
    )
    if changed:
        raise Fault(
            "other_run",
            f"{found.path} is of another run ({'; '.join(changed)}): resume with the same options, "
            f"or start a new run with --weights {found.path}",
        )
    if dist.first:
        log.warning("resuming from %s", found.path)
    if dist.first and found.state["ranks"] != dist.world:
        log.warning(
            "it was saved on %d ranks and resumes on %d. Frames, views, dropped paths and learning "
            "rate of every step stay the same; sums over the batch are taken in another order, so "
            "losses agree up to rounding and no longer bit for bit",
            *(found.state["ranks"], dist.world),
        )


def _open_run(config: RunConfig, out: Path, dist: DistInfo) -> Run:
    """Open the data of a run; what has to be written first is written by rank 0."""
    source = open_data(config, out) if dist.first else None
    wait_for_all()
    source = source if source is not None else open_data(config, out)
    return Run(config, out, dist, samples_of(config, source), batch_sampler(config, source))
