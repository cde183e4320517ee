"""Pretrain an encoder on unlabelled frames, or repeat a step that failed.

    lemumo pretrain                                   minutes, on the synthetic world
    lemumo pretrain --data DIR_or_URI                 shards of lemumo prepare
    lemumo pretrain --config training/recipes/NAME.yaml --data DIR_or_URI
    torchrun --nproc-per-node 8 --no-python lemumo pretrain --config RECIPE.yaml ...
    lemumo pretrain --config OUT/config.yaml --out OUT --resume auto
    lemumo pretrain --replay OUT/non_finite-STEP

Exit codes: 0 done, 1 an error, 3 a loss or gradient that is not finite, 85 stopped by SIGTERM,
SIGUSR1 or Ctrl-C after saving a checkpoint (queue it again with --resume auto).
"""

from __future__ import annotations

from lemumo_core.train.cli import program
from lemumo_core.train.pretrain.recipe import PRETRAINING


def main(arguments: list[str]) -> int:
    """Run ``lemumo pretrain``; return its exit code."""
    return program(PRETRAINING, __doc__, arguments)
