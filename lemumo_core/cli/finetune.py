"""Fine-tune a perception model on labelled frames, or probe a frozen encoder.

    lemumo finetune                                   minutes, on the synthetic world
    lemumo finetune --weights PRETRAINING_RUN --data DIR_or_URI
    lemumo finetune --weights PRETRAINING_RUN --mode probe --fraction 0.1
    lemumo finetune --config training/recipes/finetune_NAME.yaml --weights ...
    torchrun --nproc-per-node 2 --no-python lemumo finetune ...
    lemumo finetune --config OUT/config.yaml --out OUT --resume auto
    lemumo finetune --replay OUT/non_finite-STEP
    lemumo finetune --task points --weights CMCR_RUN [--mode probe]

With --task points a 3D network learns a class for every LiDAR point.

Without --weights all is trained from scratch. Exit codes: 0 done, 1 an error, 3 a loss or gradient
that is not finite, 85 stopped by SIGTERM, SIGUSR1 or Ctrl-C after saving a checkpoint (queue it
again with --resume auto).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lemumo_core.command_line import read_config
from lemumo_core.faults import Fault
from lemumo_core.train.cli import program
from lemumo_core.train.finetune.recipe import FINETUNING
from lemumo_core.train.points.recipe import POINT_FINETUNING


def main(arguments: list[str]) -> int:
    """Run ``lemumo finetune``; return its exit code."""
    recipe = POINT_FINETUNING if _task(arguments) == "points" else FINETUNING
    return program(recipe, __doc__, arguments)


def _task(arguments: list[str]) -> str | None:
    """Return the task that arguments or configuration files name, which decides the options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--config", action="append", default=[], type=Path)
    try:
        known, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return None  # the whole parser says what is wrong
    for file in known.config:
        if known.task is None and file.is_file():
            try:
                known.task = read_config(file).get("task")
            except Fault:
                return None  # as above
    task: str | None = known.task
    return task
