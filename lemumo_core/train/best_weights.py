"""The best weights of a fine-tuning run: kept at a validation, and handed over at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from lemumo_core.files import write_whole
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.loop import Run
from lemumo_core.train.run_config import RunConfig, to_dict


def save_best(
    out: Path, config: RunConfig, weights: Mapping[str, Tensor], results: Mapping[str, Any]
) -> None:
    """Replace the best weights of a run.

    Args:
        out: folder of the run.
        config: of the run.
        weights: by name, on any device.
        results: ``step`` after which they were so, ``score`` and ``metrics``.
    """
    state = {"schema": checkpoint.SCHEMA, **results, "config": to_dict(config)}
    checkpoint.save(out / run_folder.BEST, {checkpoint.MODEL: weights}, state)


def best_score(out: Path) -> float:
    """Return the best score that the metrics of a run hold; -inf where there is none."""
    lines = run_folder.read_metrics(out)
    return max((line["score"] for line in lines if "score" in line), default=-math.inf)


def write_best(
    run: Run,
    weights: Mapping[str, Tensor],
    file: str,
    options_file: str,
    options: Mapping[str, Any],
) -> str:
    """Write the weights that a finished run leaves, with their options, and ``summary.json``.

    Where no validation frame has truth, the weights are the last ones. The summary holds ``steps``,
    and of the best weights the ``step`` after which they were so, ``score`` and ``metrics``.

    Args:
        run: a finished one.
        weights: the last ones.
        file: name of the weights' file.
        options_file: name of the options' file.
        options: JSON values that the network is built from.

    Returns:
        One line that says which weights these are, and where.
    """
    out, which = run.out, "last"
    summary: dict[str, Any] = {"steps": run.steps}
    if (out / run_folder.BEST).exists():
        best, which = checkpoint.open_checkpoint(out / run_folder.BEST), "best"
        weights = best.tensors(checkpoint.MODEL)
        summary |= {name: best.state[name] for name in ("step", "score", "metrics")}
    run_folder.write_json(out / options_file, options)
    cpu = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    write_whole(out / file, safetensors.torch.save(cpu))
    run_folder.write_json(out / run_folder.SUMMARY, summary)
    return f"the {which} weights: {out / file}"
