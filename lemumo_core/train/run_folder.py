"""The folder of a run.

config.yaml       all options, resolved; ``--config`` takes it
run.json          git revision, versions, machine, command, ranks and sources of every start, and
                  where the weights come from that it began with
metrics.jsonl     one line a step
checkpoints/      the newest few
best/             of fine-tuning: the weights that were best on the validation frames
model.*           of fine-tuning: these weights and their ``ModelConfig``, for export
run.html          curves, monitors and samples; written again and again while it trains
tensorboard/      where TensorBoard is installed
trackers.json     ids of the run in MLflow and W&B, where it is sent there
summary.json      results
non_finite-*/     the step that was not finite, to replay
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from lemumo_core.data.sources.origins import origins
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import MANIFEST_NAME, read_manifest
from lemumo_core.train.run_config import RunConfig, to_dict

CONFIG, RUN, METRICS, SUMMARY = "config.yaml", "run.json", "metrics.jsonl", "summary.json"
CHECKPOINTS, BEST = "checkpoints", "best"
MODEL_WEIGHTS, MODEL_OPTIONS = "model.safetensors", "model.json"


def new_name(program: str) -> str:
    """Return a folder for a run that was given none."""
    return str(Path("out", program, time.strftime("%Y-%m-%d_%H-%M-%S")))


def resume_options(config: RunConfig) -> str:
    """Return the options with which the program of a run goes on with it."""
    return f"--out {str(config.out).removesuffix(config.run_suffix)} --resume auto"


def create(out: Path, config: RunConfig) -> None:
    """Create the folder of a run.

    Raises:
        Fault: ``run_exists`` where another run has written there and this does not resume it.
    """
    if (out / METRICS).exists() and config.resume is None:
        raise Fault(
            "run_exists", f"{out} holds a run: add --resume auto to go on, or another --out"
        )
    out.mkdir(parents=True, exist_ok=True)


def write_header(
    out: Path, config: RunConfig, ranks: int, first_step: int, data: Mapping[str, Any]
) -> None:
    """Describe a run that starts or goes on; its metrics are cut back to before its first step.

    Args:
        out: the run's folder.
        config: its options.
        ranks: how many there are.
        first_step: the first to come.
        data: description of its frames (``FrameSource.describe``).
    """
    kept = [json.dumps(line) for line in read_metrics(out) if line["step"] < first_step]
    write_whole(out / METRICS, "".join(f"{line}\n" for line in kept).encode())
    write_whole(out / CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False).encode())
    about = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "first_step": first_step,
        "ranks": ranks,
        "command": sys.argv,
        "sources": origins(data),
        "git": git_revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else machine(),
    }
    if config.weights is not None and first_step == 0:
        about["weights"] = origin(Path(config.weights))
    starts = json.loads((out / RUN).read_text()) if (out / RUN).exists() else []
    write_json(out / RUN, [*starts, about])


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl``, without one that a killed run left unfinished."""
    if not (out / METRICS).exists():
        return []
    text = (out / METRICS).read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def flat_options(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return options of all groups by their names on the command line, e.g. ``optimizer.lr``."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_options(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def provenance(out: Path) -> dict[str, Any]:
    """Return where a run's weights come from, for a package's manifest.

    That is the options of the run, its starts (command, git revision, versions, machine, and the
    same of the run whose weights it began with) and, once it is finished, of its summary all but
    the metrics.
    """
    summary = json.loads((out / SUMMARY).read_text()) if (out / SUMMARY).exists() else {}
    return {
        "options": yaml.safe_load((out / CONFIG).read_text()),
        "starts": json.loads((out / RUN).read_text()),
        **{name: value for name, value in summary.items() if name != "metrics"},
    }


def origin(weights: Path) -> dict[str, Any] | None:
    """Return the provenance of a package, or of the run that weights lie in; None of neither.

    Args:
        weights: a package, a run's folder, that of a checkpoint, or a file in one of these.
    """
    if (weights / MANIFEST_NAME).is_file():
        training: dict[str, Any] = json.loads(read_manifest(weights))["training"]
        return training
    folders = (weights, *weights.parents[:2])
    return next((provenance(out) for out in folders if (out / CONFIG).exists()), None)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    write_whole(path, f"{json.dumps(value, indent=1)}\n".encode())


def git_revision() -> str | None:
    """Commit of this code, with ``+changes`` where files differ from it; None outside of git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run(
            [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision.stdout.strip()


def machine() -> str:
    """Return the name of the CPU."""
    return f"{processor()}, {torch.get_num_threads()} threads"
