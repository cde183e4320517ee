"""Build TensorRT engines of a package on the machine that will run them, and prove them.

    lemumo build-engine PACKAGE                                   # every precision it ships
    lemumo build-engine PACKAGE --precision fp16 --workspace_mb 2048
    lemumo build-engine PACKAGE --runtime tensorrt-rtx --build_only   # needs no GPU

Engines go to the cache ($LEMUMO_CACHE or ~/.cache/lemumo), where the tensorrt backends look for
them. One that is there and sound is kept; a stale or damaged one is built again. After a build the
engine is compared with ONNX Runtime on frames, and deleted if it fails.

Exit codes: 0 done, 1 an error, 3 an engine was refused and deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lemumo_core.command_line import run_function
from lemumo_core.export.engine import ensure_engine, prove, trtexec_command
from lemumo_core.export.parity_inputs import Sample, source_samples
from lemumo_core.export.trt_build import BuildOptions
from lemumo_core.export.verify import FRAMES
from lemumo_core.faults import Fault
from lemumo_core.inference.cuda_driver import CudaError, Gpu, find_gpu
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import load_package
from lemumo_core.inference.tensorrt_api import load_tensorrt

REFUSED = 3


def build_engine(
    package: Path,
    *,
    runtime: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt",
    precision: list[Literal["fp32", "fp16", "int8", "fp8"]] | None = None,
    build_only: bool = False,
    rebuild: bool = False,
    frames: str = "synthetic",
    count: int = FRAMES,
    options: BuildOptions,
) -> int:
    """Build engines of a package and prove them.

    Args:
        package: folder of the model package.
        runtime: that will run the engines.
        precision: of the engines; by default every one that the package ships.
        build_only: do not run what was built.
        rebuild: build even if the cache has the engine.
        frames: SOURCE[:PATH] of real frames to prove on, e.g. bags:/data/my_bag.
        count: how many of them at most.
        options: of the builder.

    Returns:
        The exit code.

    Raises:
        Fault: ``bad_option`` for what TensorRT-RTX does not have, ``no_gpu`` where one is needed,
            ``bad_package`` for a graph that the package lacks; as ``ensure_engine``.
    """
    is_rtx = runtime == "tensorrt-rtx"
    if is_rtx and (options.version_compatible or options.hardware_compatibility != "none"):
        raise Fault(
            "bad_option",
            "TensorRT-RTX has no compatibility options: its engines are portable as they are",
        )
    gpu = _gpu_or_none(required=not (is_rtx and build_only))
    trt = load_tensorrt(runtime)
    loaded = load_package(package)
    shipped = [name for name in loaded.manifest.precisions if name != "int8-cpu"]
    is_dynamic = options.batch != (1, 1, 1)
    graphs = {name: loaded.file(model_file(name, is_dynamic)) for name in precision or shipped}
    samples: list[Sample] = []
    if not build_only:
        samples = source_samples(frames, loaded.manifest.input, count)
    passed = True
    for name, graph in graphs.items():
        print(f"{runtime} {trt.__version__}, {name}:")
        print(f"  {trtexec_command(trt, loaded, graph, name, options)}")
        path, new = ensure_engine(trt, runtime, loaded, name, options, gpu, rebuild)
        print(f"  {'built' if new else 'kept'} {path} ({path.stat().st_size / 1e6:.1f} MB)")
        if not build_only:
            passed &= prove(loaded, runtime, name, path, samples, options.batch[2])
    return 0 if passed else REFUSED


def _gpu_or_none(required: bool) -> Gpu | None:
    """The GPU of this machine, which is printed.

    Raises:
        Fault: ``no_gpu`` where one is required and missing.
    """
    try:
        gpu = find_gpu()
    except CudaError as error:
        if required:
            raise Fault(
                "no_gpu",
                f"cannot run engines here: {error}. TensorRT builds on the GPU that runs the "
                "engine: start this there. Without a GPU, --runtime tensorrt-rtx --build_only "
                "builds (pip install tensorrt-rtx)",
            ) from error
        print(f"engines are built, and none is run: {error}")
        return None
    print(gpu)
    return gpu


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo build-engine``; return its exit code."""
    return run_function("lemumo build-engine", build_engine, arguments, __doc__)
