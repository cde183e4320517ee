"""Log of a run: metrics.jsonl, a line on the terminal, a page, TensorBoard, other trackers."""

from __future__ import annotations

import json
import logging
import resource
import time
from pathlib import Path
from typing import Any

import torch

from lemumo_core.train.learner import StepValues
from lemumo_core.train.run_config import RunConfig, to_dict
from lemumo_core.train.run_folder import METRICS, flat_options, read_metrics
from lemumo_core.train.run_page import NAME as PAGE
from lemumo_core.train.run_page import RunPage
from lemumo_core.train.trackers import RunFacts, TrackerThread

log = logging.getLogger(__name__)

SHOWN = (
    *("loss", "sigreg", "invariance", "variance", "covariance", "rankme"),
    *("detection", "depth", "segmentation", "score"),
)


class RunLog:
    """Log of a run, of the one rank that writes.

    Args:
        out: the run's folder.
        first, steps: the first step to come, and how many the run has in all.
        config: options of the run.
    """

    def __init__(self, out: Path, first: int, steps: int, config: RunConfig):
        self.first, self.steps, self.batch = first, steps, config.batch
        self.every = config.log.progress_every
        self._page = RunPage(out, f"{out.name}: {config.program}", steps, read_metrics(out))
        self._file = (out / METRICS).open("a")
        self._events = _events(out, first) if config.log.tensorboard else None
        facts = RunFacts(out, config.program, flat_options(to_dict(config)))
        self._trackers = [TrackerThread(name, facts) for name in config.log.trackers]
        self._done = self._begun = first
        watch = f"watch it: {out / PAGE}"
        if self._events is not None:
            watch += f", or tensorboard --logdir {out}"
        print(watch, flush=True)
        self._start = self._mark = self._begun_at = time.monotonic()
        self._waited = 0.0
        self._since = first

    def begun(self, waited_s: float) -> None:
        """Note that a step has begun, after it waited so long for its data.

        Its values may be written later, once the next step was computed: speed is that of steps
        that begin, at the times when they did.
        """
        self._begun += 1
        self._begun_at = time.monotonic()
        self._waited += waited_s

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log a step that is done."""
        done = step + 1 - self.first
        last = step + 1 == self.steps
        if (step + 1) % self.every == 0 or done == 1 or last:
            now = self._begun_at
            elapsed, steps = now - self._mark, self._begun - self._since
            values = values | {
                "samples_per_s": steps * self.batch / elapsed,
                "data_wait": self._waited / elapsed,
                "memory_gb": _memory_gb(),
            }
            left_s = (self.steps - self._begun) * (now - self._start) / (self._begun - self.first)
            print(self._line(step, values, left_s), flush=True)
            self._mark, self._since, self._waited = now, self._begun, 0.0
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.write(step, values)
        self._page.add(step, values)
        self._done = step + 1

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()
        self._page.close()
        for tracker in self._trackers:
            tracker.close(finished=self._done == self.steps)

    def _line(self, step: int, values: dict[str, float], left_s: float) -> str:
        minutes, seconds = divmod(round(left_s), 60)
        shown = "  ".join(f"{name} {values[name]:.4g}" for name in SHOWN if name in values)
        return (
            f"step {step + 1}/{self.steps}  {shown}  lr {values['lr']:.2g}  "
            f"{values['samples_per_s']:.1f} samples/s  waiting for data "
            f"{100 * values['data_wait']:.0f} %  {values['memory_gb']:.2f} GB  "
            f"{minutes}:{seconds:02d} left"
        )


class LateLog:
    """Reads and logs the values of a step once the next one is under way.

    All ranks read them, and so learn together of a step that is not finite; the first one logs.

    Args:
        run_log: of the rank that writes.
    """

    def __init__(self, run_log: RunLog | None):
        self._log = run_log
        self._last: StepValues | None = None

    def add(self, values: StepValues, waited_s: float) -> None:
        """Log the step before, and take the values of one that has begun.

        Args:
            values: of the step.
            waited_s: how long it waited for its data, seconds.

        Raises:
            NonFinite: the step before was not finite.
        """
        self.flush()
        self._last = values
        if self._log:
            self._log.begun(waited_s)

    def flush(self) -> None:
        """Log the last step, if that was not done; what judges or saves its weights comes after.

        Raises:
            NonFinite: it was not finite.
        """
        if self._last is not None:
            values = self._last.read()
            if self._log:
                self._log.write(self._last.step, values)
            self._last = None


def _events(out: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("TensorBoard is not installed, metrics.jsonl has all: pip install tensorboard")
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=first)  # type: ignore[no-untyped-call]


def _memory_gb() -> float:
    """Largest use so far, 10^9 bytes: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
