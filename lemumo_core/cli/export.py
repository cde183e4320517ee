r"""Write a verified model package: ONNX graphs, the weights and the manifest.

    lemumo export --out out/models/mine                        # seeded random weights
    lemumo export --out out/models/mine --run FINETUNING_RUN --metrics metrics.json
    lemumo export --out out/models/mine --weights w.safetensors --model model.json
    lemumo export --out out/models/mine --package out/models/theirs \
        --precision fp16 int8 int8-cpu --frames bags:/data/my_bag

A graph takes the uint8 image, the companion, intrinsics and presence, and gives decoded results.
Float32 must equal torch; a lower precision that loses too much is left out of the package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.export import weights as models
from lemumo_core.export.package import ExportOptions, export_package
from lemumo_core.export.parity_inputs import Sample, source_samples
from lemumo_core.export.verify import FRAMES
from lemumo_core.faults import Fault
from lemumo_core.model.config import ModelConfig

DEFAULT_MODEL = ModelConfig()


def export(
    *,
    out: Path,
    name: str | None = None,
    package: Path | None = None,
    run: Path | None = None,
    weights: Path | None = None,
    model: ModelConfig = DEFAULT_MODEL,
    seed: int = 0,
    metrics: Path | None = None,
    frames: str = "synthetic",
    count: int = FRAMES,
    options: ExportOptions,
) -> None:
    """Write a verified model package.

    Args:
        out: package folder to write.
        name: of the model; by default the folder's.
        package: take the weights of another package.
        run: take those of a finished fine-tuning run.
        weights: take those of a safetensors file, whose architecture is ``--model``.
        model: architecture of ``--weights`` or of random weights, e.g. ``--model model.json`` or
            ``--model.size small``.
        seed: of random weights.
        metrics: metrics.json of ``lemumo evaluate`` for the manifest; by default what the run
            measured on its validation frames.
        frames: SOURCE[:PATH] of real frames to calibrate and verify lower precisions on, e.g.
            bags:/data/my_bag or kitti:/data/kitti.
        count: how many of them at most.
        options: which graphs to write.

    Raises:
        Fault: ``bad_option`` for weights from two places.
    """
    origins = {"package": package, "run": run, "weights": weights}
    given = [key for key, origin in origins.items() if origin is not None]
    if len(given) > 1:
        named = " and ".join(f"--{key}" for key in given)
        raise Fault("bad_option", f"{named} each bring weights: give one of them")
    name = name or out.resolve().name
    if package is not None:
        network, card = models.of_package(package, name)
    elif run is not None:
        network, card = models.of_run(run, name)
    elif weights is not None:
        network, card = models.of_file(weights, model, name)
    else:
        network, card = models.of_seed(seed, model, name)
    if metrics is not None:
        card = replace(card, metrics=models.main_metrics(json.loads(metrics.read_text())))
    samples: list[Sample] = []
    if options.precision:
        samples = source_samples(frames, network.config.input_spec, count)
    export_package(network, out, card, options, samples)


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo export``; return its exit code."""
    return run_function("lemumo export", export, arguments, __doc__)
