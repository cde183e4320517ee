"""Build TensorRT engines of a package on the machine that will run them, and prove them.

    python export/to_trt.py PACKAGE                                   # every precision it ships
    python export/to_trt.py PACKAGE --precision fp16 --workspace-mb 2048
    python export/to_trt.py PACKAGE --flavour tensorrt-rtx --build-only   # needs no GPU

Engines go to the cache ($LEMUMO_CACHE or ~/.cache/lemumo), where the tensorrt backends look for
them. One that is there and sound is kept; a stale or damaged one is built again. After a build the
engine is held against ONNX Runtime on frames, and deleted if it fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lemumo_core.export.parity_inputs import Sample, random_samples, source_samples
from lemumo_core.export.parity_report import as_text
from lemumo_core.export.trt_build import (
    BuildOptions,
    build,
    check_engine_precision,
    trtexec_line,
)
from lemumo_core.export.verify import (
    RANDOM_SEEDS,
    add_sample_arguments,
    losses,
    verify,
    verify_batch,
)
from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference import tensorrt_api as api
from lemumo_core.inference.cache import locked, write_cached
from lemumo_core.inference.cuda_driver import CudaError, Gpu, find_gpu
from lemumo_core.inference.engine_cache import EngineKey, read_engine, store_engine
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package, load_package

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
        trt, flavour: of ``tensorrt_api.load_tensorrt``.
        package, precision: what to build.
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
            "trtexec": _trtexec(trt, package, graph, precision, options),
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
        package, flavour, precision: what was built.
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


def _trtexec(
    trt: ModuleType, package: Package, graph: Path, precision: str, options: BuildOptions
) -> str:
    shapes: dict[str, Any] = {}
    if options.batch != (1, 1, 1):
        inputs = random_inputs(package.manifest.input)
        shapes = {name: array.shape[1:] for name, array in inputs._asdict().items()}
    return trtexec_line(trt, graph, precision, options, shapes)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--flavour", choices=api.MODULES, default="tensorrt")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "fp16", "int8", "fp8"),
        help="default: every one that the package ships",
    )
    parser.add_argument(
        "--batch",
        nargs=3,
        type=int,
        default=(1, 1, 1),
        metavar=("MIN", "BEST", "MAX"),
        help="batch sizes; above 1 the package needs its dynamic graph",
    )
    parser.add_argument("--workspace-mb", type=int, default=0, help="cap; for 8 GB boards")
    parser.add_argument("--optimization-level", type=int, default=3, choices=range(6))
    parser.add_argument("--version-compatible", action="store_true")
    parser.add_argument(
        "--hardware-compatibility",
        choices=("none", "ampere_plus", "same_compute_capability"),
        default="none",
    )
    parser.add_argument("--build-only", action="store_true", help="do not run what was built")
    parser.add_argument("--rebuild", action="store_true", help="even if the cache has it")
    add_sample_arguments(parser)
    args = parser.parse_args(arguments)
    if args.flavour == "tensorrt-rtx" and (
        args.version_compatible or args.hardware_compatibility != "none"
    ):
        parser.error("TensorRT-RTX has no compatibility options: its engines are portable as is")
    gpu, missing = None, ""
    try:
        gpu = find_gpu()
        print(f"to_trt: {gpu}")
    except CudaError as error:
        missing = str(error)
        print(f"to_trt: cannot run engines here: {missing}")
    if gpu is None and not (args.flavour == "tensorrt-rtx" and args.build_only):
        print(
            "TensorRT builds on the GPU that runs the engine: start this there. Without a GPU, "
            "--flavour tensorrt-rtx --build-only builds (pip install tensorrt-rtx)",
            file=sys.stderr,
        )
        return 2
    try:
        return _run(args, gpu)
    except (ValueError, ImportError, OSError) as error:  # Fault among them
        print(f"to_trt: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace, gpu: Gpu | None) -> int:
    trt = api.load_tensorrt(args.flavour)
    package = load_package(args.package)
    shipped = [p for p in package.manifest.precisions if p != "int8-cpu"]
    options = BuildOptions(
        tuple(args.batch),
        args.workspace_mb,
        args.optimization_level,
        args.version_compatible,
        args.hardware_compatibility,
    )
    frames: list[Sample] = []
    if not args.build_only:
        frames = source_samples(args.frames, package.manifest.input, args.count)
    passed = True
    for precision in args.precision or shipped:
        print(f"{args.flavour} {trt.__version__}, {precision}:")
        graph = package.file(model_file(precision, dynamic=options.batch != (1, 1, 1)))
        print(f"  {_trtexec(trt, package, graph, precision, options)}")
        path, new = ensure_engine(trt, args.flavour, package, precision, options, gpu, args.rebuild)
        print(f"  {'built' if new else 'kept'} {path} ({path.stat().st_size / 1e6:.1f} MB)")
        if not args.build_only:
            passed &= prove(package, args.flavour, precision, path, frames, options.batch[2])
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
