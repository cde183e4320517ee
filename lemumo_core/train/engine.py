"""The training loop."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lemumo_core.data.shard_plan import differences
from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.config import PretrainConfig, from_plain, identity, plain
from lemumo_core.train.data import (
    FrameOrder,
    Samples,
    cut_views,
    frame_order,
    open_data,
    samples_of,
    training_batches,
)
from lemumo_core.train.learner import Learner, NonFinite
from lemumo_core.train.parallel import Place, any_rank, from_first, ranks, wait_for_all
from lemumo_core.train.run_log import RunLog
from lemumo_core.train.signals import REQUEUE, StopRequest, stop_request
from lemumo_core.train.summary import describe, summarise

log = logging.getLogger(__name__)

DONE, NOT_FINITE = 0, 3
"""Exit codes, beside ``signals.REQUEUE``."""


def pretrain(config: PretrainConfig) -> int:
    """Run, or go on with, a pretraining run.

    Returns:
        Exit code: ``DONE``, ``REQUEUE`` after a signal, ``NOT_FINITE``.

    Raises:
        Fault, FileNotFoundError, ImportError: for what the configuration asks for and is not
            there, or does not fit; the message says what to do.
    """
    with stop_request() as stop:
        with ranks(config.batch) as place:
            out = Path(from_first(config.out or run_folder.new_name()))
            config = replace(config, out=str(out))
            found = _resumed(config, out, place)
            first = found.state["step"] if found else 0
            if place.first:
                run_folder.begin(out, config, place.world, first)
            source = _opened(config, out, place)
            order = frame_order(config, source)
            if found:
                _check_same_run(config, found, order, place)
                config = replace(config, weights=None)  # the checkpoint has its own
            learner = Learner(config, config.total_steps(order.frames), place)
            if found:
                learner.restore(found)
            samples = samples_of(config, source)
            code = _train(learner, samples, order, first, out, stop)
            weights = checkpoint.model_tensors(learner.encoder)
        if code == DONE and place.first:
            summary = summarise(config, samples, order, weights, out, place.device)
            print(describe(summary, out))
        return code


def _train(
    learner: Learner, samples: Samples, order: FrameOrder, first: int, out: Path, stop: StopRequest
) -> int:
    config, place, steps = learner.config, learner.place, learner.steps
    run_log = None
    if place.first:
        every, tensorboard = config.log.progress_every, config.log.tensorboard
        run_log = RunLog(out, first, steps, config.batch, every, tensorboard)
    try:
        coming = training_batches(config, samples, order, first, place.rank, place.world)
        for step in range(first, steps):
            before = time.monotonic()
            batch = next(coming).to(place.device, non_blocking=True)
            waited_s = time.monotonic() - before
            views = cut_views(batch, config, step, place.rank, place.world)
            try:
                values = learner.learn(views, step)
            except NonFinite as trouble:
                _capture(learner, order, step, out, trouble)
                return NOT_FINITE
            if run_log:
                run_log.waited(waited_s)
                run_log.write(step, values)
            stopping = any_rank(bool(stop), place.device)
            if stopping or step + 1 == steps or (step + 1) % config.log.checkpoint_every == 0:
                _save(learner, order, step + 1, out)
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


def _save(learner: Learner, order: FrameOrder, step: int, out: Path) -> None:
    tensors = learner.tensors()
    if learner.place.first:
        root = out / run_folder.CHECKPOINTS
        folder = checkpoint.checkpoint_folder(root, step)
        checkpoint.save(folder, tensors, _state(learner, order, step))
        checkpoint.prune(root, learner.config.log.keep)
    wait_for_all()


def _state(learner: Learner, order: FrameOrder, step: int) -> dict[str, Any]:
    return {
        "step": step,
        "frames": order.frames,
        "ranks": learner.place.world,
        "config": plain(learner.config),
    }


def _capture(learner: Learner, order: FrameOrder, step: int, out: Path, trouble: NonFinite) -> None:
    """Write all that the step needs to be repeated."""
    weights = checkpoint.model_tensors(learner.encoder)
    if learner.place.first:
        folder = out / f"non_finite-{step:08d}"
        values = {name: repr(value) for name, value in trouble.values.items()}
        state = _state(learner, order, step) | {"values": values, "batch": order[step]}
        checkpoint.save(folder, {checkpoint.MODEL: weights}, state)
        log.error(
            "step %d is %s; stopped before the optimiser's step. Repeat it with\n"
            "    python training/pretrain.py --replay %s",
            *(step + 1, trouble, folder),
        )


def replay(folder: Path) -> dict[str, tuple[str, str]]:
    """Repeat a captured step, on one rank.

    Returns:
        By name, the value then and now, as text.

    Raises:
        Fault: ``bad_checkpoint``; or as ``open_data``.
    """
    captured = checkpoint.open_checkpoint(folder)
    config = from_plain(captured.state["config"])
    step = captured.state["step"]
    with ranks(config.batch) as place:
        source = open_data(config, Path(str(config.out)))
        order = frame_order(config, source)
        steps = config.total_steps(order.frames)
        learner = Learner(replace(config, weights=str(folder)), steps, place)
        samples = samples_of(config, source)
        workers = replace(config, scale=replace(config.scale, workers=0))
        batch = next(training_batches(workers, samples, order, step, 0, 1)).to(place.device)
        views = cut_views(batch, config, step, 0, 1)
        try:
            values = learner.learn(views, step)
        except NonFinite as trouble:
            values = trouble.values
    then = captured.state["values"]
    return {name: (then[name], repr(values[name])) for name in then}


def _resumed(config: PretrainConfig, out: Path, place: Place) -> Checkpoint | None:
    """The checkpoint to go on from: the one that rank 0 finds."""
    if config.resume is None:
        return None
    found = checkpoint.newest(out / run_folder.CHECKPOINTS) if place.first else None
    path = from_first(str(found.path) if found else "")
    return checkpoint.open_checkpoint(Path(path)) if path else None


def _check_same_run(
    config: PretrainConfig, found: Checkpoint, order: FrameOrder, place: Place
) -> None:
    there, here = identity(found.state["config"]), identity(plain(config))
    changed = differences(
        there | {"frames": found.state["frames"]}, here | {"frames": order.frames}
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


def _opened(config: PretrainConfig, out: Path, place: Place) -> FrameSource:
    """The data; what has to be written first is written by rank 0."""
    source = open_data(config, out) if place.first else None
    wait_for_all()
    return source if source is not None else open_data(config, out)
