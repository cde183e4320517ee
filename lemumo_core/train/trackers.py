"""Experiment trackers of others: MLflow and Weights & Biases, behind one small interface.

Where a tracker is and what a project is called comes from its own environment variables, such as
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, WANDB_PROJECT and WANDB_MODE.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from lemumo_core.extras import install_line
from lemumo_core.files import write_whole

log = logging.getLogger(__name__)

TRACKERS_FILE = "trackers.json"
"""File of a run that holds by tracker the id of its run there, which a resumed run goes on with."""
PROJECT = "lemumo"
WAITING = 10_000
"""Steps that may wait to be sent; more are left out."""
TOGETHER = 100
"""Steps that are sent together at most."""
CLOSING_S = 30.0
MLFLOW_PARAMETER = 6000
"""Characters of a parameter's value that MLflow takes."""


class RunFacts(NamedTuple):
    """Facts of a run that a tracker shows.

    Attributes:
        out: the run's folder.
        program: e.g. ``pretrain``.
        options: by name, of all groups.
    """

    out: Path
    program: str
    options: Mapping[str, Any]


class Row(NamedTuple):
    """Values of a step, and when they were measured, seconds since 1970."""

    step: int
    values: Mapping[str, float]
    time_s: float


class Tracker(Protocol):
    """A connection to one run of a tracker.

    Attributes:
        id: of the run there.
    """

    id: str

    def write(self, rows: list[Row]) -> None:
        """Send some steps."""
        ...

    def close(self, finished: bool) -> None:
        """End the connection; a run that is not finished may go on later."""
        ...


class MlflowTracker:
    """A run of MLflow, by its client, which keeps no global state.

    Args:
        facts: of the run.
        known: id of its run there; None begins one.
    """

    def __init__(self, facts: RunFacts, known: str | None):
        try:
            from mlflow.entities import Metric, Param
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ImportError(f"--log.trackers mlflow needs: {install_line('mlflow')}") from error
        self._client, self._metric = MlflowClient(), Metric
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(
            experiment, run_name=facts.out.name, tags={"program": facts.program}
        )
        self.id = run.info.run_id
        options = [
            Param(key, str(value)[:MLFLOW_PARAMETER]) for key, value in facts.options.items()
        ]
        for i in range(0, len(options), TOGETHER):
            self._client.log_batch(self.id, params=options[i : i + TOGETHER])

    def write(self, rows: list[Row]) -> None:
        """See ``Tracker``."""
        metrics = [
            self._metric(name, value, round(row.time_s * 1e3), row.step)
            for row in rows
            for name, value in row.values.items()
        ]
        for i in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            self._client.log_batch(self.id, metrics=metrics[i : i + 1000])

    def close(self, finished: bool) -> None:
        """See ``Tracker``."""
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


class WandbTracker:
    """A run of Weights & Biases; steps are a value of their own, so that they may come again.

    Args:
        facts: of the run.
        known: id of its run there; None begins one.
    """

    def __init__(self, facts: RunFacts, known: str | None):
        try:
            import wandb
        except ImportError as error:
            raise ImportError(f"--log.trackers wandb needs: {install_line('wandb')}") from error
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(facts.out),
            name=facts.out.name,
            job_type=facts.program,
            config=dict(facts.options),
            id=known,
            resume=None if known is None else "allow",
        )
        self.id = self._run.id
        self._run.define_metric("*", step_metric="step")

    def write(self, rows: list[Row]) -> None:
        """See ``Tracker``."""
        for row in rows:
            self._run.log({"step": row.step, **row.values})

    def close(self, finished: bool) -> None:
        """See ``Tracker``."""
        self._run.finish(exit_code=0 if finished else 1)


TrackerName = Literal["mlflow", "wandb"]
TRACKERS: dict[str, Callable[[RunFacts, str | None], Tracker]] = {
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


class TrackerThread:
    """Sends the steps of a run to a tracker from a thread of its own.

    A tracker that is slow or fails never stops a training: the first failure is named, and nothing
    more is sent.

    Args:
        name: a key of ``TRACKERS``.
        facts: of the run.
    """

    def __init__(self, name: str, facts: RunFacts):
        self._name, self._facts = name, facts
        self._rows: queue.Queue[Row | None] = queue.Queue(WAITING)
        self._failed = threading.Event()
        self._finished = False
        self._thread = threading.Thread(target=self._send, name=name, daemon=True)
        self._thread.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send a step when there is time for it; values that are not finite are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._put(Row(step, finite, time.time()))

    def close(self, finished: bool) -> None:
        """Wait for what is left to be sent, but not for ever."""
        self._finished = finished
        self._put(None)
        self._thread.join(CLOSING_S)
        if self._thread.is_alive() and not self._failed.is_set():
            log.warning(
                "%s did not take all steps within %.0f s; metrics.jsonl has them",
                *(self._name, CLOSING_S),
            )

    def _put(self, row: Row | None) -> None:
        if self._failed.is_set():
            return
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._fail("it is too slow for the steps that wait")

    def _fail(self, why: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            log.warning(
                "%s: %s; the training goes on without it, and metrics.jsonl has all",
                *(self._name, why),
            )

    def _send(self) -> None:
        try:
            tracker = TRACKERS[self._name](self._facts, _known_id(self._facts.out, self._name))
            _keep_id(self._facts.out, self._name, tracker.id)
            open_ = True
            while open_ and not self._failed.is_set():
                rows = [self._rows.get()]
                while len(rows) < TOGETHER and rows[-1] is not None and not self._rows.empty():
                    rows.append(self._rows.get())
                open_ = rows[-1] is not None
                if sent := [row for row in rows if row is not None]:
                    tracker.write(sent)
            tracker.close(self._finished)
        except Exception as error:  # whatever a library of others raises must not end the training
            self._fail(f"{type(error).__name__}: {error}")


def _known_id(out: Path, name: str) -> str | None:
    path = out / TRACKERS_FILE
    known: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return known.get(name)


_FILE = threading.Lock()


def _keep_id(out: Path, name: str, run_id: str) -> None:
    with _FILE:  # of two trackers' threads
        path = out / TRACKERS_FILE
        known = json.loads(path.read_text()) if path.is_file() else {}
        write_whole(path, f"{json.dumps(known | {name: run_id})}\n".encode())
