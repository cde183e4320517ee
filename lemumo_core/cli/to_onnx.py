"""Weights to a verified model package: ONNX graphs, the weights and the manifest.

    python export/to_onnx.py --out out/models/mine                       # seeded random weights
    python export/to_onnx.py --out out/models/mine --run FINETUNING_RUN --metrics metrics.json
    python export/to_onnx.py --out out/models/mine --weights w.safetensors --config config.json
    python export/to_onnx.py --out out/models/mine --package out/models/theirs \\
        --precision fp16 int8 int8-cpu --frames bags:/data/my_bag

A graph takes the uint8 image, the companion, intrinsics and presence, and gives decoded results.
Float32 must equal torch; a lower precision that loses too much is left out of the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lemumo_core.evaluation.modalities import MODALITIES
from lemumo_core.export.graph import OPSET, export_onnx, half_precision
from lemumo_core.export.parity import Limits, Parity
from lemumo_core.export.parity_inputs import PRESENCE, Sample, random_samples, source_samples
from lemumo_core.export.parity_report import as_text
from lemumo_core.export.quantize import quantize
from lemumo_core.export.shared_weights import share_weights
from lemumo_core.export.verify import (
    RANDOM_SEEDS,
    add_sample_arguments,
    losses,
    verify,
    verify_batch,
)
from lemumo_core.faults import Fault
from lemumo_core.inference.backends import RUNTIMES, why_not
from lemumo_core.inference.manifest import PRECISIONS, Manifest, model_file
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import WEIGHTS_NAME, Package, load_package, sha256, write_package
from lemumo_core.model.config import COMPANION_CHANNELS, SIZES, ModelConfig
from lemumo_core.model.perception import (
    PerceptionModel,
    load_model,
    save_weights,
    seeded_model,
    with_half_weights,
)
from lemumo_core.train.finetune.validation import FIGURES
from lemumo_core.train.run_folder import MODEL_OPTIONS, MODEL_WEIGHTS, SUMMARY, provenance


def export_package(
    model: PerceptionModel,
    out: Path,
    name: str,
    trained: bool,
    training: dict | None = None,
    precisions: Sequence[str] = (),
    dynamic: bool = False,
    opset: int = OPSET,
    frames: Sequence[Sample] = (),
    metrics: dict | None = None,
    compact: bool = False,
) -> Package:
    """Export, verify and write a whole package.

    Args:
        model: in evaluation mode, float32.
        out: folder to create or to update.
        name: of the model.
        trained: False for random weights.
        training: provenance for the manifest.
        precisions: below float32, of ``PRECISIONS``; one that fails its gate is left out.
        dynamic: add graphs with a free batch size.
        opset: of the graphs.
        frames: real inputs, to calibrate and to verify on beside random ones.
        metrics: measured quality for the manifest.
        compact: round the weights to float16 and store them so, half as large; what computes in
            float32 still does.

    Raises:
        ValueError: if ONNX Runtime's float32 is not equal to torch; no package is written then.
    """
    config = model.config
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    metadata = {"name": name, "preset": config.preset, "size": config.size}
    if compact:
        model = with_half_weights(model)
    save_weights(model, out / WEIGHTS_NAME, torch.float16 if compact else torch.float32)
    for old in out.glob("model*.onnx"):
        old.unlink()  # of an earlier export: a precision not asked for now must not ship
    for kind in (False, True)[: 1 + dynamic]:
        export_onnx(model, out / model_file("fp32", kind), metadata, kind, opset)
        for precision in precisions:
            target = out / model_file(precision, kind)
            if precision == "fp16":
                export_onnx(half_precision(model), target, metadata, kind, opset)
            else:
                inputs = [frame.inputs for frame in frames]
                quantize(out / model_file("fp32", kind), target, precision, inputs)
    names = [model_file(p, kind) for p in ("fp32", *precisions) for kind in (False, True)]
    written = [n for n in (*names, WEIGHTS_NAME) if (out / n).exists()]
    for precision in {"fp32", "fp16"} & {"fp32", *precisions}:  # others have weights of their own
        for kind in (False, True)[: 1 + dynamic]:
            share_weights(out / model_file(precision, kind), out / WEIGHTS_NAME)
    manifest = manifest_of(
        config,
        name,
        trained,
        files={n: sha256(out / n) for n in written},
        losses={precision: {} for precision in precisions},
        training=training or {},
        metrics=metrics or {},
    )
    print(f"{out}: {len(written) - 1} graphs, opset {opset}, {time.monotonic() - started:.1f} s")
    manifest = gate(Package(out, manifest), frames)
    return write_package(out, manifest)


def gate(package: Package, frames: Sequence[Sample]) -> Manifest:
    """Verify every graph of a package that has no manifest yet.

    Args:
        package: with the precisions to be verified as keys of its losses.
        frames: real inputs beside random ones.

    Returns:
        The manifest with measured losses; the graphs of a precision that fails are deleted.

    Raises:
        ValueError: if float32 fails.
    """
    manifest = package.manifest
    samples = [*random_samples(manifest.input, RANDOM_SEEDS), *frames]
    failures = _failures("onnxruntime against torch", verify(package, "onnxruntime", samples))
    failures += _dynamic_failures(package, "fp32", samples)
    if failures:
        raise ValueError(f"onnxruntime differs from torch: {'; '.join(failures)}")
    measured: dict[str, dict[str, float]] = {}
    for precision in manifest.precisions[1:]:
        parity, limits = verify(package, f"onnxruntime:{precision}", samples, "onnxruntime")
        failures = _failures(f"{precision} against float32", (parity, limits))
        failures += _dynamic_failures(package, precision, samples)
        if failures:
            print(f"{precision} is refused and left out of the package")
            for kind in (False, True):
                (package.path / model_file(precision, kind)).unlink(missing_ok=True)
        else:
            measured |= {precision: losses(parity), **_judged_alone(package, precision, samples)}
    return replace(manifest, losses=measured, files={})


def _judged_alone(
    package: Package, precision: str, samples: Sequence[Sample]
) -> dict[str, dict[str, float]]:
    """Losses of the runtimes that need a gate of their own for a precision, and pass it."""
    passed = {}
    for runtime, kind in RUNTIMES.items():
        name = f"{runtime}:{precision}"
        if precision not in kind.judged_alone:
            continue
        if reason := why_not(runtime):
            print(f"{name} is not judged, so auto will not choose it: {reason}")
            continue
        compared = verify(package, name, samples, "onnxruntime")
        if _failures(f"{name} against float32", compared):
            print(f"{name} is refused: auto will not choose it")
        else:
            passed[name] = losses(compared[0])
    return passed


def _dynamic_failures(package: Package, precision: str, samples: Sequence[Sample]) -> list[str]:
    if model_file(precision, dynamic=True) not in package.manifest.files:
        return []
    name = f"onnxruntime:{precision}"
    compared = verify_batch(package, name, samples[: len(PRESENCE)], name)
    return _failures(f"{precision}: a batch against its samples", compared)


def _failures(title: str, compared: tuple[Parity, Limits]) -> list[str]:
    print(as_text(title, *compared))
    return compared[0].failures(compared[1])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="package folder to write")
    parser.add_argument("--name", help="model name; default: the folder's")
    parser.add_argument("--package", type=Path, help="take the weights of another package")
    parser.add_argument("--run", type=Path, help="take those of a finished fine-tuning run")
    parser.add_argument("--weights", type=Path, help="safetensors of a trained model")
    parser.add_argument("--config", type=Path, help="its ModelConfig as JSON")
    parser.add_argument(
        "--metrics",
        type=Path,
        help="metrics.json of training/evaluate.py for the manifest; default: what the run found "
        "on the frames it held out",
    )
    parser.add_argument("--preset", choices=COMPANION_CHANNELS, default="lemumo")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--height", type=int, default=256, help="multiple of 16")
    parser.add_argument("--width", type=int, default=704, help="multiple of 16")
    parser.add_argument("--companion", choices=("lidar", "thermal"), default="lidar")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS[1:], default=[], help="beside float32"
    )
    parser.add_argument("--dynamic", action="store_true", help="add graphs of any batch size")
    parser.add_argument("--compact", action="store_true", help="store the weights in float16")
    parser.add_argument("--opset", type=int, choices=(18, 19, 20), default=OPSET)
    add_sample_arguments(parser)
    args = parser.parse_args(arguments)
    if (args.weights is None) != (args.config is None):
        parser.error("--weights and --config go together")
    try:
        model, trained, training, metrics = _load(args)
        if args.metrics is not None:
            metrics = _figures(json.loads(args.metrics.read_text()))
        frames = []
        if args.precision:
            frames = source_samples(args.frames, model.config.input_spec, args.count)
        name = args.name or args.out.resolve().name
        wanted = (args.precision, args.dynamic, args.opset, frames)
        export_package(model, args.out, name, trained, training, *wanted, metrics, args.compact)
    except (ValueError, ImportError, OSError) as error:  # Fault among them
        print(f"to_onnx: {error}", file=sys.stderr)
        return 1
    return 0


def _load(args: argparse.Namespace) -> tuple[PerceptionModel, bool, dict, dict]:
    """The model, whether it is trained, and its provenance and metrics for the manifest."""
    if args.package is not None:
        package = load_package(args.package)
        if WEIGHTS_NAME not in package.manifest.files:
            raise Fault("bad_package", f"{args.package} ships no {WEIGHTS_NAME}")
        config = ModelConfig.from_dict(package.manifest.model)
        model = load_model(config, package.file(WEIGHTS_NAME))
        manifest = package.manifest
        return model, manifest.trained, manifest.training, manifest.metrics
    if args.run is not None:
        config = ModelConfig.from_dict(json.loads((args.run / MODEL_OPTIONS).read_text()))
        model = load_model(config, args.run / MODEL_WEIGHTS)
        summary = json.loads((args.run / SUMMARY).read_text())
        return model, True, provenance(args.run), _figures(summary.get("metrics", {}))
    if args.weights is not None:
        config = ModelConfig.from_dict(json.loads(args.config.read_text()))
        return load_model(config, args.weights), True, {}, {}
    config = ModelConfig(args.preset, args.size, args.height, args.width, args.companion)
    return seeded_model(config, args.seed), False, {"seed": args.seed}, {}


def _figures(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures to look at first, by mode, of what a run or an evaluation says."""
    return {
        mode: {name: metrics[mode][name] for name in FIGURES if metrics[mode][name] is not None}
        for mode in MODALITIES
        if mode in metrics
    }


if __name__ == "__main__":
    sys.exit(main())
