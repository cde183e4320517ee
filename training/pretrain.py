"""Pretrain an encoder on unlabelled frames, or look at a step that failed.

    python training/pretrain.py                                   minutes, on the synthetic world
    python training/pretrain.py --data DIR_or_URI                 shards of training/prepare.py
    python training/pretrain.py --config training/recipes/NAME.yaml --data DIR_or_URI
    torchrun --nproc-per-node 8 training/pretrain.py --config training/recipes/eight_gpus.yaml ...
    python training/pretrain.py --config OUT/config.yaml --out OUT --resume auto
    python training/pretrain.py --replay OUT/non_finite-STEP

Exit codes: 0 done, 1 an error, 3 a loss or gradient that is not finite, 85 stopped by SIGTERM,
SIGUSR1 or Ctrl-C after saving a checkpoint (queue it again with --resume auto).
"""

from __future__ import annotations

import sys

from lemumo_core.train.cli import program
from lemumo_core.train.pretrain.recipe import PRETRAINING


def main(arguments: list[str]) -> int:
    return program(PRETRAINING, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
