"""Training runs of the recipes, as benchmarks take them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lemumo_core.train.finetune.recipe import FINETUNING
from lemumo_core.train.loop import Recipe
from lemumo_core.train.pretrain.config import PretrainLogConfig
from lemumo_core.train.pretrain.recipe import PRETRAINING
from lemumo_core.train.run_config import RunConfig, command_line, from_namespace

RECIPES = Path(__file__).resolve().parent.parent / "training" / "recipes"
ROWS = {
    "pretrain, preset lemumo": (PRETRAINING, "single_24gb.yaml"),
    "pretrain, preset paper": (PRETRAINING, "paper_waymo.yaml"),
    "finetune": (FINETUNING, "finetune_single_24gb.yaml"),
}
"""Kind of training and file of the options, by name."""


def run_of(row: str, **changes: Any) -> tuple[Recipe, RunConfig]:
    """Return kind and options of a run, without online probes and validation.

    Args:
        row: a key of ``ROWS``.
        changes: other options.
    """
    recipe, name = ROWS[row]
    parser = command_line(recipe.config, "benchmark")
    given = parser.parse_args(["--config", str(RECIPES / name)])
    config: RunConfig = from_namespace(recipe.config, parser, given)
    if isinstance(config.log, PretrainLogConfig):  # probes learn after the step, where labels are
        config = replace(config, log=replace(config.log, probes=False))
    return recipe, replace(config, **{"epochs": 0.0, "steps": 1000, "val_frames": 0} | changes)
