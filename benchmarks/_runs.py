"""Runs of the programs of ``training/`` that a benchmark compares."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lemumo_core.cli.main import main as lemumo

ROOT = Path(__file__).resolve().parent.parent
PAPERS_LOSS = {
    "method": "LeMuMo",
    "method.objective": "lejepa",
    "method.tokens": False,
    "method.mask_returns": 0,
    "method.masked_weight": 0,
}
"""Le MuMo JEPA as in arXiv 2603.24327: without what the method's defaults add to its loss."""
METRICS = {"bev_map": "BEV mAP", "depth_mae_m": "depth MAE, m", "miou": "mIoU"}
"""Metrics of a fine-tuning run's summary, and their names in tables."""
TRIVIAL = {"nearest_mae_m": "the nearest return", "linear_mae_m": "linear interpolation"}
"""Depth errors, in a summary, of answers that need no model, on the pixels of ``depth_mae_m``."""


def positive(text: str) -> int:
    """A number of a command line, at least 1; what argparse takes for ``type``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def finish(program: str, options: dict[str, Any]) -> None:
    """Run a training program, or go on with it, unless its run is finished."""
    if not (options["out"] / "summary.json").exists():
        run(program, [], options)


def run(program: str, arguments: list[str], options: dict[str, Any]) -> None:
    """Run a program of training/.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, ROOT / "training" / program, *arguments, *flags(options)]
    subprocess.run(command, check=True)


def run_here(*arguments: str) -> None:
    """Run a command of lemumo in this process: importing would take as long as a short run.

    Raises:
        SystemExit: it failed or was stopped.
    """
    if code := lemumo(list(arguments)):
        raise SystemExit(code)


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    return [f"--{name}={_text(value)}" for name, value in options.items()]


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (bool, list)) else str(value)


def folder_name(name: str) -> str:
    """Return the folder of what a table calls ``name``: its words joined by hyphens."""
    return name.replace(",", "").replace(" ", "-")


def fused(run_folder: Path) -> dict[str, float]:
    """The figures of a finished fine-tuning run, with both sensors."""
    found = json.loads((run_folder / "summary.json").read_text())["metrics"]["fused"]
    shown = {name: float(found[name]) for name in METRICS}
    return shown | {name: float(found[name]) for name in TRIVIAL if found.get(name) is not None}


def trivial_answers(results: Iterable[dict[str, float]]) -> str:
    """Return a sentence on the depth MAE that needs no model, of validation frames that all share.

    It is empty where no frame has a return.
    """
    means = {
        words: [one[name] for one in results if name in one] for name, words in TRIVIAL.items()
    }
    known = [f"{words} {statistics.mean(v):.2f} m" for words, v in means.items() if v]
    return f"Without a model, depth MAE on the same pixels: {', '.join(known)}.\n" if known else ""


def mean_and_deviation(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"
