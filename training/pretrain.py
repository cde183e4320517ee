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

import logging
import sys
from pathlib import Path

from lemumo_core.train.config import command_line, parsed
from lemumo_core.train.engine import pretrain, replay


def main(arguments: list[str]) -> int:
    logging.basicConfig(format="%(message)s")
    parser = command_line("pretrain.py")
    parser.description = __doc__
    parser.add_argument("--replay", type=Path, help="folder of a captured step, to repeat it")
    options = parser.parse_args(arguments)
    try:
        if options.replay is not None:
            for name, (then, now) in replay(options.replay).items():
                print(f"{name}: {then} then, {now} now")
            return 0
        return pretrain(parsed(parser, options))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
