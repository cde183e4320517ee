"""Fine-tune a perception model on labelled frames, or probe a frozen encoder.

    python training/finetune.py                                   minutes, on the synthetic world
    python training/finetune.py --weights PRETRAINING_RUN --data DIR_or_URI
    python training/finetune.py --weights PRETRAINING_RUN --mode probe --fraction 0.1
    python training/finetune.py --config training/recipes/finetune_NAME.yaml --weights ...
    torchrun --nproc-per-node 2 training/finetune.py ...
    python training/finetune.py --config OUT/config.yaml --out OUT --resume auto
    python training/finetune.py --replay OUT/non_finite-STEP

Without --weights all is trained from scratch. Exit codes: 0 done, 1 an error, 3 a loss or gradient
that is not finite, 85 stopped by SIGTERM, SIGUSR1 or Ctrl-C after saving a checkpoint (queue it
again with --resume auto).
"""

from __future__ import annotations

import sys

from lemumo_core.train.cli import program
from lemumo_core.train.finetune.recipe import FINETUNING


def main(arguments: list[str]) -> int:
    return program(FINETUNING, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
