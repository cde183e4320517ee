"""TensorRT engines in the cache: built at most once, proven against ONNX Runtime or deleted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lemumo_core.export.parity_inputs import Sample, random_samples
from lemumo_core.export.parity_report import as_text
from lemumo_core.export.trt_build import (
    BuildOptions,
    build,
    check_engine_precision,
    trtexec_line,
)
from lemumo_core.export.verify import RANDOM_SEEDS, losses, verify, verify_batch
from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference.cache import locked, write_cached
from lemumo_core.inference.cuda_driver import Gpu
from lemumo_core.inference.engine_cache import EngineKey, read_engine, store_engine
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package

LOCK_S = 3600.0
"""A build on a small computer can take a quarter of an hour."""


def ensure_engine(
    trt: ModuleType,
    flavour: str,
    package: Package,
    precision: str,
    options: BuildOptions,
    gpu: Gpu | None,
    rebuild: bool = False,
) -> tuple[Path, bool]:
    """Have a sound engine in the cache, building it at most once across processes.

    Args:
        trt: of ``tensorrt_api.load_tensorrt``.
        flavour: likewise.
        package: whose graph to build.
        precision: of the graph.
        options: of the builder; a batch above 1 takes the dynamic graph.
        gpu: of this machine.
        rebuild: build even if there is one.

    Returns:
        Its file, and whether it was built now.

    Raises:
        Fault: as ``build``; ``bad_package`` if the graph is missing; ``cache`` if the cache folder
            is full or cannot be written, or another build holds the lock for ``LOCK_S``.
    """
    graph = package.file(model_file(precision, dynamic=options.batch != (1, 1, 1)))
    sha256 = package.graph_sha256(graph.name)
    settings = dataclasses.asdict(options)
    batch = settings.pop("batch")
    key = EngineKey.here(sha256, flavour, trt.__version__, gpu, precision, batch, settings)
    folder = cache_folder() / "engines"
    path = folder / key.file_name(package.manifest.name)
    with locked(path, LOCK_S) as waited:
        if (not rebuild or waited) and path.exists():
            try:
                read_engine(path, key)
                return path, False
            except Fault as fault:
                print(f"building again: {fault}")
        timing = folder / f"timing-{flavour}-{trt.__version__}-{key.gpu}.cache".replace(" ", "_")
        before = None  # TensorRT-RTX times nothing while it builds
        if flavour == "tensorrt":
            before = timing.read_bytes() if timing.exists() else b""
        built = build(trt, graph, precision, options, before, show_progress=True)
        if gpu is not None and flavour == "tensorrt":
            check_engine_precision(trt, built.engine, precision)
        facts = {
            "model": package.manifest.name,
            "seconds": round(built.seconds, 1),
            "layer_types": built.types,
            "trtexec": trtexec_command(trt, package, graph, precision, options),
        }
        store_engine(folder, package.manifest.name, key, built.engine, facts)
        if built.timing_cache:
            write_cached(timing, built.timing_cache)
    return path, True


def prove(
    package: Package,
    flavour: str,
    precision: str,
    path: Path,
    frames: Sequence[Sample],
    largest_batch: int = 1,
) -> bool:
    """Hold an engine against ONNX Runtime's float32; keep the result in its sidecar, or delete it.

    Args:
        package: whose graph was built.
        flavour: of TensorRT.
        precision: of the graph.
        path: of the engine.
        frames: real inputs beside random ones.
        largest_batch: of its profile; above 1 the samples go through it in one batch.

    Returns:
        Whether it passed.
    """
    samples = [*random_samples(package.manifest.input, RANDOM_SEEDS), *frames]
    name = f"{flavour}:{precision}"
    if largest_batch > 1:
        parity, limits = verify_batch(package, name, samples[:largest_batch], "onnxruntime")
    else:
        parity, limits = verify(package, name, samples, "onnxruntime")
    print(as_text(f"{name} against onnxruntime", parity, limits))
    sidecar = path.with_suffix(".json")
    if parity.failures(limits):
        path.unlink()
        sidecar.unlink()
        print(f"{path.name} is refused and deleted")
        return False
    document = json.loads(sidecar.read_text()) | {"parity": losses(parity)}
    write_cached(sidecar, (json.dumps(document, indent=2) + "\n").encode())
    return True


def trtexec_command(
    trt: ModuleType, package: Package, graph: Path, precision: str, options: BuildOptions
) -> str:
    """Return the ``trtexec`` command that builds the same engine of a graph of a package."""
    shapes: dict[str, Any] = {}
    if options.batch != (1, 1, 1):
        inputs = random_inputs(package.manifest.input)
        shapes = {name: array.shape[1:] for name, array in inputs._asdict().items()}
    return trtexec_line(trt, graph, precision, options, shapes)
