"""Runs of a folder, listed and compared."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lemumo_core.evaluation.tables import Table
from lemumo_core.files import contents_of
from lemumo_core.train.run_folder import (
    CONFIG,
    METRICS,
    RUN,
    SUMMARY,
    flat_options,
    read_metrics,
)

ACTIVE_S = 300.0
"""Seconds without a step after which an unfinished run is taken to be stopped."""
SHOWN = ("loss", "score", "rankme")
COMPARED = (
    *("fused_bev_map", "fused_ap50", "fused_depth_mae_m", "fused_nearest_mae_m"),
    *("fused_linear_mae_m", "fused_miou", "camera_only_depth_mae_m", "probe_depth"),
    "probe_segmentation",
)
PLACES = ("out", "resume", "scale", "log")
"""Options that decide no number of a run."""


class RunState(NamedTuple):
    """A run as its folder shows it.

    Attributes:
        out: its folder.
        options: by their names on the command line.
        start: the latest entry of ``run.json``.
        steps: how many are done.
        last: the latest value of everything that was logged.
        state: ``finished``, ``running`` or ``stopped``.
    """

    out: Path
    options: dict[str, Any]
    start: dict[str, Any]
    steps: int
    last: dict[str, float]
    state: str


def find_runs(folder: Path) -> list[Path]:
    """Return the folders of runs in a folder at any depth, or itself where it is one."""
    return sorted(path.parent for path in folder.rglob(RUN) if (path.parent / CONFIG).is_file())


def read_run(out: Path) -> RunState:
    """Read the folder of a run.

    Raises:
        Fault: ``bad_run`` where its files are damaged.
    """
    cure = "copy its folder again, or remove it"
    with contents_of(out / CONFIG, "bad_run", cure):
        options = flat_options(yaml.safe_load((out / CONFIG).read_text()))
    with contents_of(out / RUN, "bad_run", cure):
        start = dict(json.loads((out / RUN).read_text())[-1])
    with contents_of(out / METRICS, "bad_run", cure):
        last = {name: value for row in read_metrics(out) for name, value in row.items()}
        steps = last.pop("step", -1) + 1
    metrics = out / METRICS
    is_active = metrics.exists() and time.time() - metrics.stat().st_mtime < ACTIVE_S
    state = "running" if is_active else "stopped"
    if (out / SUMMARY).is_file():
        state = "finished"
    return RunState(out, options, start, steps, last, state)


def listed(runs: Sequence[RunState]) -> Table:
    """Return a row for each run, the latest start first."""
    names = [name for name in SHOWN if any(name in run.last for run in runs)]
    head = ("run", "started", "state", "steps", "data", "seed", *names)
    rows = [
        (
            str(run.out),
            str(run.start.get("time", "-"))[:16].replace("T", " "),
            run.state,
            str(run.steps),
            ", ".join(run.start.get("sources") or []) or Path(str(run.options.get("data"))).name,
            str(run.options.get("seed", "-")),
            *(_text(run.last.get(name)) for name in names),
        )
        for run in sorted(runs, key=lambda run: str(run.start.get("time")), reverse=True)
    ]
    return Table("", head, rows)


def compared(runs: Sequence[RunState]) -> list[Table]:
    """Return the options that differ, and the latest figures, a column for each run."""
    head = ("", *_apart(runs))
    names = dict.fromkeys(name for run in runs for name in run.options)
    options = [
        (name, *(_text(run.options.get(name)) for run in runs))
        for name in names
        if name.partition(".")[0] not in PLACES
        and len({repr(run.options.get(name)) for run in runs}) > 1
    ]
    about: list[tuple[str, ...]] = [
        ("state", *(run.state for run in runs)),
        ("steps", *(str(run.steps) for run in runs)),
        ("code", *(str(run.start.get("git") or "-")[:12] for run in runs)),
    ]
    metrics = [
        (name, *(_text(run.last.get(name)) for run in runs))
        for name in (*SHOWN, *COMPARED)
        if any(name in run.last for run in runs)
    ]
    tables = [Table("options that differ", head, options or [("none", *("" for _ in runs))])]
    return [*tables, Table("latest figures", head, [*about, *metrics])]


def _apart(runs: Sequence[RunState]) -> list[str]:
    """Return the paths of runs below the folder that they share."""
    folders = [run.out.resolve() for run in runs]
    shared = Path(os.path.commonpath({folder.parent for folder in folders}))
    return [str(folder.relative_to(shared)) for folder in folders]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
