r"""Write a verified model package: ONNX graphs, the weights and the manifest.

    lemumo export --out out/models/mine                        # seeded random weights
    lemumo export --out out/models/mine --run FINETUNING_RUN --metrics metrics.json
    lemumo export --out out/models/early --run FINETUNING_RUN/checkpoints/step-00000080
    lemumo export --out out/models/mine --weights w.safetensors --model model.json
    lemumo export --out out/models/tall --package out/models/theirs --height 528
    lemumo export --out out/models/mine --package out/models/theirs \
        --precision fp16 int8 int8-cpu --frames bags:/data/my_bag

A graph takes the uint8 image, the companion, intrinsics and presence, and gives decoded results.
Float32 must equal torch; a lower precision that loses too much is left out of the package.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lemumo_core.cli.path_kinds import path_kind, require_package
from lemumo_core.command_line import run_function
from lemumo_core.export import weights as models
from lemumo_core.export.package import ExportOptions, export_package, move_package
from lemumo_core.export.parity_inputs import Sample, source_samples
from lemumo_core.export.verify import FRAMES
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.inference.package import MANIFEST_NAME
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.run_folder import MODEL_OPTIONS

DEFAULT_MODEL = ModelConfig()
STAGED = ".part"
"""Folder in that of the package, where its files wait until all are there: beside it, there may be
no permission to write, and another disk."""
OWN_ARCHITECTURE = (
    "--package and --run bring their own architecture, which --model cannot change: leave --model "
    "out; --height and --width resize the input, and another companion, size or head needs a "
    "training of its own (lemumo finetune)"
)


def export(
    *,
    out: Path,
    overwrite: bool = False,
    name: str | None = None,
    package: Path | None = None,
    run: Path | None = None,
    weights: Path | None = None,
    model: ModelConfig = DEFAULT_MODEL,
    height: int | None = None,
    width: int | None = None,
    encoder_reduction: int | None = None,
    companion_vote: float | None = None,
    seed: int = 0,
    metrics: Path | None = None,
    license: str | None = None,
    frames: str = "synthetic",
    count: int = FRAMES,
    options: ExportOptions,
) -> None:
    """Write a verified model package.

    Args:
        out: package folder to write.
        overwrite: replace the package in ``out``; one that is also ``--package`` is updated.
        name: of the model; by default the folder's.
        package: take the weights of another package.
        run: take those of a fine-tuning run, or of one of its checkpoints.
        weights: take those of a safetensors file, whose architecture is ``--model``, or else the
            model.json beside it.
        model: architecture of ``--weights`` or of random weights, e.g. ``--model model.json`` or
            ``--model.size small``. The other origins bring theirs.
        height: of the network's input, pixels, a multiple of 16; by default that of the weights,
            whose tables of positions are resized otherwise.
        width: likewise.
        encoder_reduction: of a model that refines depth: the input is so many times larger than
            what the encoder sees of it, and depth and labels keep its size; by default that of the
            weights. Without height and width the input grows with it.
        companion_vote: share in boxes, from 0 to 1, of what the companion says without the camera,
            which on cameras unlike those of training finds more and invents less; by default that
            of the weights. It costs a second pass of encoder and boxes.
        seed: of random weights.
        metrics: metrics.json of ``lemumo evaluate`` for the manifest; by default what the run
            measured on its validation frames.
        license: SPDX name of the weights' licence for manifest and model card, e.g. Apache-2.0; by
            default that of ``--package``.
        frames: SOURCE[:PATH] of real frames to calibrate and verify lower precisions on, e.g.
            bags:/data/my_bag or kitti:/data/kitti.
        count: how many of them at most.
        options: which graphs to write.

    Raises:
        Fault: ``bad_option`` for weights from two places, or an architecture beside one that the
            weights bring; ``wrong_weights`` for what is no such origin; as ``check_output``.
    """
    origins = {"package": package, "run": run, "weights": weights}
    given = [key for key, origin in origins.items() if origin is not None]
    if len(given) > 1:
        named = " and ".join(f"--{key}" for key in given)
        raise Fault("bad_option", f"{named} each bring weights: give one of them")
    if model != DEFAULT_MODEL and (package or run):
        raise Fault("bad_option", OWN_ARCHITECTURE)
    is_update = package is not None and package.resolve() == out.resolve()
    check_output(out, MANIFEST_NAME, overwrite or is_update)
    name = name or out.resolve().name
    if package is not None:
        require_package(package, "--package")
        network, card = models.of_package(package, name)
    elif run is not None:
        _require_run(run)
        network, card = models.of_run(run, name)
    elif weights and weights.is_dir():
        cure = "give it as --package or --run"
        raise Fault("wrong_weights", f"--weights {weights} is a folder: {cure}")
    elif weights and model == DEFAULT_MODEL and weights.with_name(MODEL_OPTIONS).is_file():
        network, card = models.of_run(weights, name)
    elif weights is not None:
        network, card = models.of_file(weights, model, name)
    else:
        print(f"random weights of seed {seed}: give --run, --package or --weights", file=sys.stderr)
        network, card = models.of_seed(seed, model, name)
    network, card = models.resized(network, card, height, width, encoder_reduction)
    if companion_vote is not None:
        network, card = models.with_vote(network, card, companion_vote)
    if metrics is not None:
        card = models.measured(card, json.loads(metrics.read_text()))
    if license is not None:
        card = replace(card, license=license)
    samples: list[Sample] = []
    if options.precision:
        samples = source_samples(frames, network.config.input_spec, count)
    staged = out / STAGED
    with disk_errors_named(out):
        try:
            shutil.rmtree(staged, ignore_errors=True)  # of an export that was killed
            export_package(network, staged, card, options, samples)
            move_package(staged, out)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _require_run(run: Path) -> None:
    """Check that a path is a fine-tuning run, or a checkpoint.

    Raises:
        Fault: ``wrong_weights`` with what it is instead.
    """
    kind = path_kind(run)
    if kind in ("fine-tuning run", "checkpoint", "unknown"):  # a folder of weights may be unknown
        return
    cures = {
        "pretraining run": f"an encoder without heads: lemumo finetune --weights {run} first",
        "package": f"give it as --package {run}",
        "weights": f"give it as --weights {run}, with its architecture as --model",
    }
    cure = cures.get(kind, "give the folder that lemumo finetune --out wrote")
    raise Fault("wrong_weights", f"--run {run} is no fine-tuning run ({kind}): {cure}")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo export``; return its exit code."""
    names = {word.partition("=")[0].partition(".")[0] for word in arguments}
    if "--model" in names and names & {"--package", "--run"}:  # also where it equals the default
        print(f"lemumo export: {OWN_ARCHITECTURE}", file=sys.stderr)
        return 1
    return run_function("lemumo export", export, arguments, __doc__)
