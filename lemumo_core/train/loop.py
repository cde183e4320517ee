"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lemumo_core.data.mixture import Subset, by_member
from lemumo_core.data.samples import Batch
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.statistics import empty_views
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.signals import REQUEUE, Stopped, StopRequest, stop_request
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.batch_sampler import BatchSampler, batch_sampler
from lemumo_core.train.learner import Converged, Learner, NonFinite, StepValues
from lemumo_core.train.loader import Samples, open_data, samples_of, training_batches
from lemumo_core.train.parallel import DistInfo, any_rank, from_first, ranks, wait_for_all
from lemumo_core.train.resume import check_same_run, checkpoint_to_resume
from lemumo_core.train.run_config import RunConfig, from_dict, to_dict
from lemumo_core.train.run_log import LateLog, RunLog
from lemumo_core.train.run_page import write_samples
from lemumo_core.train.selection import describe_data

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
        stop: whether a signal asked to stop.
    """

    config: Any
    out: Path
    dist: DistInfo
    samples: Samples
    sampler: BatchSampler
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return int(self.config.total_steps(self.sampler.draws))


class Recipe(NamedTuple):
    """A kind of training.

    Attributes:
        config: class of the options.
        learner: builds the learner, without the weights to start from.
        finalize: writes the results of a finished run, given the weights, and returns a summary to
            print. The first rank calls it, alone.
        check: refuses data that the options cannot be trained on; returns the options as far as
            the data allows them, and sentences for the log. The frames for validation come last.
        open: opens the frames of a run, given its folder.
        sampler: draws its batches.
    """

    config: type[RunConfig]
    learner: Callable[[Run], Learner]
    finalize: Callable[[Run, Mapping[str, Tensor]], str]
    check: Callable[[Any, FrameSource], tuple[Any, list[str]]]
    open: Callable[[Any, Path], FrameSource] = open_data
    sampler: Callable[[Any, FrameSource], BatchSampler] = batch_sampler


def train(task: Recipe, config: RunConfig) -> int:
    """Start a run, or go on with it.

    Returns:
        Exit code: ``DONE``, ``REQUEUE`` after a signal, ``NOT_FINITE``.

    Raises:
        Fault, FileNotFoundError, ImportError: for what the configuration asks for and is not
            there, or does not fit; the message says what to do.
    """
    config = replace(config, out=config.out or run_folder.new_name(config.program))
    out = Path(str(config.out))
    check_output(out)
    with stop_request() as stop, disk_errors_named(out):
        try:
            return _start(task, config, stop)
        except Stopped as stopped:
            log.warning(
                "%s: %s goes on; exit code %d",
                *(stopped, run_folder.resume_options(config), REQUEUE),
            )
            return REQUEUE


def _start(task: Recipe, config: RunConfig, stop: StopRequest) -> int:
    with ranks(config.batch) as dist:
        out = Path(from_first(str(config.out)))
        config = replace(config, out=str(out))
        found = checkpoint_to_resume(config, out, dist)
        first = found.state["step"] if found else 0
        if dist.first:
            run_folder.create(out, config)
        run = _open_run(task, config, out, dist, stop)
        if found:
            check_same_run(config, run.sampler.frames, dist, found)
        if dist.first:
            described = run.samples.source.describe()
            run_folder.write_header(out, config, dist.world, first, described)
        learner = task.learner(run)
        if found:
            learner.restore(found)
        elif config.weights is not None:
            learner.load(Path(config.weights))
        # What a validation that was stopped belongs to: the line of the last step.
        unfinished = found.state.get("unfinished") if found else None
        code = _train(learner, run, first, unfinished)
        weights = learner.weights()
        del learner  # what DDP holds ends before the process group does (``ranks``)
    if code == DONE and dist.first:
        print(task.finalize(run, weights))
    return code


def _train(learner: Learner, run: Run, first: int, unfinished: dict[str, float] | None) -> int:
    config, dist, out = run.config, run.dist, run.out
    begin = first if unfinished is None else first - 1
    run_log = None
    if dist.first:
        write_samples(out, run.samples.source)
        run_log = RunLog(out, begin, run.steps, config)
    late_log = LateLog(run_log)
    with (
        closing(run_log) if run_log else nullcontext(),
        run.stop.deferred(),
        training_batches(config, run.samples, run.sampler, first, dist.rank, dist.world) as coming,
    ):
        try:
            for step in range(begin, run.steps):
                before = time.monotonic()
                try:
                    batch = _next(coming, run) if step >= first else None
                except Stopped:
                    if step == first:
                        raise
                    late_log.flush()
                    _save(learner, run, step)
                    return _stopped(run, step)
                waited_s = time.monotonic() - before
                try:
                    known = StepValues(step, known=unfinished)
                    values = known if batch is None else learner.learn(batch, step)
                except Converged:
                    late_log.flush()
                    _save(learner, run, step)
                    return DONE
                late_log.add(values, waited_s)
                if learner.due(step + 1):
                    so_far = values.read()
                    try:
                        values.known |= learner.validate(step + 1)
                    except Stopped:
                        _save(learner, run, step + 1, unfinished=so_far)
                        return _stopped(run, step + 1)
                    late_log.flush()
                stopping, last = any_rank(bool(run.stop)), step + 1 == run.steps
                if stopping or last or (step + 1) % config.log.checkpoint_every == 0:
                    late_log.flush()
                    _save(learner, run, step + 1)
                if stopping and not last:
                    return _stopped(run, step + 1)
        except NonFinite as trouble:
            _capture(learner, run, trouble)
            return NOT_FINITE
    return DONE


def _next(coming: Iterator[Batch], run: Run) -> Batch:
    """Return the next batch on the run's device.

    Raises:
        Stopped: a signal came while one rank alone waited; several end the step together.
    """
    with run.stop.immediate() if run.dist.world == 1 else nullcontext():
        return next(coming).to(run.dist.device, non_blocking=True)


def _stopped(run: Run, step: int) -> int:
    name = run.stop.signal.name if run.stop.signal else "another rank's signal"
    log.warning(
        "stopped by %s after step %d and saved: %s goes on; exit code %d",
        *(name, step, run_folder.resume_options(run.config), REQUEUE),
    )
    return REQUEUE


def _save(
    learner: Learner, run: Run, step: int, unfinished: Mapping[str, float] | None = None
) -> None:
    """Write a checkpoint.

    Args:
        learner: whose tensors are saved.
        run: the run.
        step: the first that was not trained.
        unfinished: values of the step before, whose validation a signal stopped.
    """
    tensors = learner.tensors()
    if run.dist.first:
        root = run.out / run_folder.CHECKPOINTS
        folder = checkpoint.checkpoint_folder(root, step)
        state = _state(run, step) | ({} if unfinished is None else {"unfinished": unfinished})
        checkpoint.save(folder, tensors, state)
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


def _capture(learner: Learner, run: Run, trouble: NonFinite) -> None:
    """Write all that the step needs to be repeated.

    The weights are those before it. Statistics of batch norms, which no training step reads, have
    seen it and perhaps the next one.
    """
    weights, step = learner.weights(), trouble.step
    if run.dist.first:
        folder = run.out / f"non_finite-{step:08d}"
        values = {name: repr(value) for name, value in trouble.values.items()}
        state = _state(run, step) | {"values": values, "batch": run.sampler[step]}
        checkpoint.save(folder, {checkpoint.MODEL: weights}, state)
        log.error(
            "%s; no weight was changed by it. Repeat it with\n"
            "    python training/%s.py --replay %s",
            *(trouble, run.config.program, folder),
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
        run = _open_run(task, config, Path(str(config.out)), dist, StopRequest())
        learner = task.learner(run)
        learner.load(folder)
        workers = replace(config, scale=replace(config.scale, workers=0))
        with training_batches(workers, run.samples, run.sampler, step, 0, 1) as coming:
            batch = next(coming).to(dist.device)
        try:
            values = learner.learn(batch, step).read()
        except NonFinite as trouble:
            values = trouble.values
    then = captured.state["values"]
    return {name: (then[name], repr(values[name])) for name in then}


def _open_run(task: Recipe, config: RunConfig, out: Path, dist: DistInfo, stop: StopRequest) -> Run:
    """Open the data of a run; what has to be written first is written by rank 0."""
    source = task.open(config, out) if dist.first else None
    wait_for_all()
    source = source if source is not None else task.open(config, out)
    config, notes = task.check(config, source)
    if dist.first:
        members = (Subset(source, part.frames) for part in by_member(source))
        views = map(empty_views, members)
        for note in filter(None, [describe_data(config, source), *views, *notes]):
            log.warning(note)
    samples, sampler = samples_of(config, source), task.sampler(config, source)
    return Run(config, out, dist, samples, sampler, stop)
