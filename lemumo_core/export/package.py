"""A model becomes a verified package: ONNX graphs, the weights and the manifest.

A graph takes the uint8 image, the companion, intrinsics and presence, and gives decoded results.
Float32 must equal torch; a lower precision that loses too much is left out of the package.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lemumo_core.export.graph import export_onnx, half_precision
from lemumo_core.export.parity import Limits, Parity
from lemumo_core.export.parity_inputs import PRESENCE, Sample, random_samples
from lemumo_core.export.parity_report import as_text
from lemumo_core.export.quantize import quantize
from lemumo_core.export.shared_weights import share_weights
from lemumo_core.export.verify import RANDOM_SEEDS, losses, verify, verify_batch
from lemumo_core.inference.backends import RUNTIMES, unavailable_reason
from lemumo_core.inference.manifest import Manifest, model_file
from lemumo_core.inference.model_card import write_card
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import (
    MANIFEST_NAME,
    WEIGHTS_NAME,
    Package,
    sha256,
    write_package,
)
from lemumo_core.inference.signature import SIGNATURE_NAME
from lemumo_core.model.perception import PerceptionModel, save_weights, with_half_weights
from lemumo_core.wording import count_of

LowPrecision = Literal["fp16", "int8", "fp8", "int8-cpu"]


@dataclass(frozen=True)
class ModelCard:
    """Entries of a manifest that describe a model, beside its architecture.

    Attributes:
        name: of the model.
        trained: False for random weights.
        training: provenance.
        metrics: measured quality by modalities and by name.
        license: SPDX name of the licence, or empty.
    """

    name: str
    trained: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    license: str = ""


@dataclass(frozen=True)
class ExportOptions:
    """Which graphs a package holds.

    Attributes:
        precision: below float32; one that fails its gate is left out.
        dynamic: add graphs of any batch size.
        compact: round the weights to float16 and store them so, half as large; what computes in
            float32 still does.
        opset: ONNX operator set of the graphs.
    """

    precision: tuple[LowPrecision, ...] = ()
    dynamic: bool = False
    compact: bool = False
    opset: Literal[18, 19, 20] = 18


def export_package(
    model: PerceptionModel,
    out: Path,
    card: ModelCard,
    options: ExportOptions = ExportOptions(),
    frames: Sequence[Sample] = (),
) -> Package:
    """Export, verify and write a whole package.

    Args:
        model: in evaluation mode, float32.
        out: folder to create or to update.
        card: for the manifest.
        options: which graphs to write.
        frames: real inputs, to calibrate and to verify on beside random ones.

    Returns:
        The package that was written.

    Raises:
        ValueError: if ONNX Runtime's float32 is not equal to torch; no package is written then.
    """
    config = model.config
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    metadata = {"name": card.name, "preset": config.preset, "size": config.size}
    if options.compact:
        model = with_half_weights(model)
    save_weights(model, out / WEIGHTS_NAME, torch.float16 if options.compact else torch.float32)
    for old in out.glob("model*.onnx"):
        old.unlink()  # of an earlier export: a precision not asked for now must not ship
    for kind in (False, True)[: 1 + options.dynamic]:
        print(f"writing {model_file('fp32', kind)}", file=sys.stderr, flush=True)
        export_onnx(model, out / model_file("fp32", kind), metadata, kind, options.opset)
        for precision in options.precision:
            target = out / model_file(precision, kind)
            print(f"writing {target.name}", file=sys.stderr, flush=True)
            if precision == "fp16":
                export_onnx(half_precision(model), target, metadata, kind, options.opset)
            else:
                inputs = [frame.inputs for frame in frames]
                quantize(out / model_file("fp32", kind), target, precision, inputs)
    names = [model_file(p, kind) for p in ("fp32", *options.precision) for kind in (False, True)]
    written = [n for n in (*names, WEIGHTS_NAME) if (out / n).exists()]
    # Precisions below float16 have weights of their own.
    for shared in {"fp32", "fp16"} & {"fp32", *options.precision}:
        for kind in (False, True)[: 1 + options.dynamic]:
            share_weights(out / model_file(shared, kind), out / WEIGHTS_NAME)
    manifest = manifest_of(
        config,
        card.name,
        card.trained,
        files={n: sha256(out / n) for n in written},
        losses={precision: {} for precision in options.precision},
        training=card.training,
        metrics=card.metrics,
        license=card.license,
    )
    seconds = time.monotonic() - started
    graphs = count_of(len(written) - 1, "graph")
    print(f"{card.name}: {graphs}, opset {options.opset}, {seconds:.1f} s")
    manifest = gate(Package(out, manifest), frames)
    write_card(out, manifest)
    return write_package(out, manifest)


def move_package(staged: Path, out: Path) -> None:
    """Move the files of a whole package to a folder, the manifest last.

    Args:
        staged: the package's folder, which is gone then.
        out: where it takes the place of an earlier package; other files there stay.
    """
    out.mkdir(parents=True, exist_ok=True)
    for earlier in (*out.glob("model*.onnx"), out / MANIFEST_NAME, out / SIGNATURE_NAME):
        earlier.unlink(missing_ok=True)
    for file in sorted(staged.iterdir(), key=lambda file: file.name == MANIFEST_NAME):
        shutil.move(file, out / file.name)
    staged.rmdir()


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
        if reason := unavailable_reason(runtime):
            print(f"{name} is not verified, so auto will not choose it: {reason}")
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
