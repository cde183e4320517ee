"""Your log to a model package: shards, pretraining without labels, fine-tuning, export.

    python examples/log_to_package.py BAG PACKAGE [--steps STEPS]

Fine-tuning learns from the bag's /ground_truth topics, and depth from its LiDAR. The folders of
runs are below ``out``. The defaults take minutes; a real log needs a recipe (training/recipes).
"""

import sys
from pathlib import Path

import lemumo_core
from lemumo_core.command_line import run_function
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.sources.registry import open_source
from lemumo_core.export.package import export_package
from lemumo_core.export.weights import of_run
from lemumo_core.train.pretrain.config import PretrainLogConfig


def main(bag: str, package: Path, steps: int = 400) -> None:
    """Walk the whole way.

    Args:
        bag: folder or file.
        package: folder to write.
        steps: of pretraining, and of fine-tuning.
    """
    frames = f"out/frames/{package.name}"
    written = write_shards(open_source("bags", path=bag), frames, jpeg=90)
    options = {"data": frames, "steps": steps, "val_frames": max(1, written.frames // 10)}

    log = PretrainLogConfig(probes=False)  # a log has few labels, if any
    pretrained = lemumo_core.pretrain(lemumo_core.PretrainConfig(log=log, **options))
    config = lemumo_core.FinetuneConfig(weights=str(pretrained), **options)
    finetuned = lemumo_core.finetune(config)

    model, card = of_run(finetuned, name=package.name)
    exported = export_package(model, package, card)
    print(f"{exported.path}: {card.metrics}")


if __name__ == "__main__":
    sys.exit(run_function("log_to_package.py", main, sys.argv[1:], __doc__))
