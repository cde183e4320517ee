"""Fine-tune a perception model on labelled frames, or probe a frozen encoder.

    lemumo finetune                                   minutes, on the synthetic world
    lemumo finetune --weights PRETRAINING_RUN --data DIR_or_URI
    lemumo finetune --weights PRETRAINING_RUN --mode probe --fraction 0.1
    lemumo finetune --config training/recipes/finetune_NAME.yaml --weights ...
    torchrun --nproc-per-node 2 --no-python lemumo finetune ...
    lemumo finetune --config OUT/config.yaml --out OUT --resume auto
    lemumo finetune --replay OUT/non_finite-STEP

Without --weights all is trained from scratch. Exit codes: 0 done, 1 an error, 3 a loss or gradient
that is not finite, 85 stopped by SIGTERM, SIGUSR1 or Ctrl-C after saving a checkpoint (queue it
again with --resume auto).
"""

from __future__ import annotations

from lemumo_core.train.cli import program
from lemumo_core.train.finetune.recipe import FINETUNING


def main(arguments: list[str]) -> int:
    """Run ``lemumo finetune``; return its exit code."""
    return program(FINETUNING, __doc__, arguments)
