"""Parse, build and audit with TensorRT or TensorRT for RTX."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from lemumo_core.faults import Fault
from lemumo_core.inference import tensorrt_api as api
from lemumo_core.progress import Progress

LOW_TYPES = {"fp32": None, "fp16": "HALF", "int8": "INT8", "fp8": "FP8"}
"""Name of the type that a network of a precision must hold."""
HEAVY = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
"""Layers where the time goes; depths are computed in float32 around them."""
FLOATING = ("FLOAT", "HALF", "BF16", "INT8", "FP8")


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        batch: smallest, best and largest batch size.
        workspace_mb: cap on the memory that a layer may use; 0: TensorRT's own.
        optimization_level: 0 (fast build) to 5 (fast engine).
        version_compatible: runs with later versions of the same major, slower.
        hardware_compatibility: ``none``, ``ampere_plus`` or ``same_compute_capability``.
    """

    batch: tuple[int, int, int] = (1, 1, 1)
    workspace_mb: int = 0
    optimization_level: Literal[0, 1, 2, 3, 4, 5] = 3
    version_compatible: bool = False
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"


@dataclass(frozen=True)
class Built:
    """Result of a build: the serialised engine, its layers, the seconds and the timing cache.

    Layers are counted by type; the timing cache is empty where none was used.
    """

    engine: bytes
    types: dict[str, int]
    seconds: float
    timing_cache: bytes


def build(
    trt: ModuleType,
    onnx_path: Path,
    precision: str,
    options: BuildOptions,
    timing_cache: bytes | None = None,
    show_progress: bool = False,
) -> Built:
    """Build an engine.

    Args:
        trt: from ``tensorrt_api.load_tensorrt``.
        onnx_path: graph of that precision.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        options: of the builder.
        timing_cache: of an earlier build on this machine, empty for a new one; None: do without.
        show_progress: print a line with the time left, where this TensorRT can tell.

    Raises:
        Fault: ``unsupported_graph`` if the parser refuses the graph, ``wrong_precision`` if the
            network is not of the precision asked for, ``build_failed`` with TensorRT's words.
    """
    logger = api.logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(api.network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise Fault("unsupported_graph", f"TensorRT refuses {onnx_path}: {'; '.join(errors[:3])}")
    types = layer_types(network)
    check_precision(types, layer_types(network, HEAVY), precision)
    config = builder.create_builder_config()
    _configure(trt, builder, network, config, precision, options)
    cache = None
    if timing_cache is not None:
        cache = config.create_timing_cache(timing_cache)
        config.set_timing_cache(cache, ignore_mismatch=False)
    if show_progress and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt)
    started = time.monotonic()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reason = api.last_errors(trt)
        if "implementation" in reason:
            reason += " (often this means too little memory: try --workspace_mb)"
        raise Fault("build_failed", f"TensorRT could not build {onnx_path}: {reason}")
    kept = bytes(cache.serialize()) if cache is not None else b""
    return Built(bytes(engine), dict(types), time.monotonic() - started, kept)


def layer_types(network: Any, kinds: Sequence[str] = ()) -> Counter[str]:
    """How many layers of a network, of some kinds or of all, put out each type."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    counted = [layer for layer in layers if not kinds or layer.type.name in kinds]
    outputs = [layer.get_output(0) for layer in counted if layer.num_outputs]
    return Counter(output.dtype.name for output in outputs)


def check_precision(types: Counter[str], heavy: Counter[str], precision: str) -> None:
    """Refuse a network that is not of the precision asked for.

    Of the layers where the time goes a half network must hold more in half than in float; an 8-bit
    one must hold some 8-bit layers, a float one nothing below but weights that are stored in half.

    Args:
        types: of all layers.
        heavy: of the ``HEAVY`` ones.
        precision: asked for.

    Raises:
        Fault: ``wrong_precision`` with the count of layers by type.
    """
    if precision not in LOW_TYPES:
        known = ", ".join(LOW_TYPES)
        raise Fault("wrong_precision", f"TensorRT builds {known}, not {precision}")
    low = LOW_TYPES[precision]
    lower = {name: types[name] for name in FLOATING[1:] if types[name]}
    stored = {"HALF"} if not heavy["HALF"] else set()
    right = lower.keys() <= stored if low is None else bool(lower.get(low))
    if low == "HALF":
        right = heavy["HALF"] > heavy["FLOAT"]
    if not right:
        raise Fault("wrong_precision", f"this is no {precision} network; its layers: {dict(types)}")


def check_engine_precision(trt: ModuleType, plan: bytes, precision: str) -> None:
    """Refuse an engine in which no layer runs in the precision asked for.

    Needs a GPU, since it asks the finished engine. Weakly typed TensorRT 8 may ignore the flags.

    Raises:
        Fault: ``wrong_precision``, or ``build_failed`` if the engine cannot even be loaded.
    """
    runtime = trt.Runtime(api.logger(trt))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise Fault(
            "build_failed", f"TensorRT refuses what it has just built: {api.last_errors(trt)}"
        )
    names = {"fp16": ("Half", "FP16"), "int8": ("Int8",), "fp8": ("FP8",)}.get(precision)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", [])
    if names is not None and not any(
        name in json.dumps(layer) for layer in layers for name in names
    ):
        raise Fault("wrong_precision", f"no layer of the engine runs in {precision}")


def trtexec_line(
    trt: ModuleType,
    onnx_path: Path,
    precision: str,
    options: BuildOptions,
    shapes: Mapping[str, Sequence[int]],
) -> str:
    """Return the ``trtexec`` call that builds the same engine.

    Args:
        trt: decides what the flags are called.
        onnx_path: as in ``build``.
        precision: likewise.
        options: likewise.
        shapes: of the inputs without their batch; empty for a graph of batch 1.
    """
    words = ["trtexec", f"--onnx={onnx_path}"]
    words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if api.is_strongly_typed(trt):
        words.append("--stronglyTyped")
    elif precision != "fp32":
        words += [f"--{precision}", "--precisionConstraints=obey"]
    for name, batch in zip(("min", "opt", "max"), options.batch, strict=True):
        texts = [
            f"{tensor}:{'x'.join(map(str, (batch, *rest)))}" for tensor, rest in shapes.items()
        ]
        words += [f"--{name}Shapes={','.join(texts)}"] if texts else []
    if precision == "fp32":
        words.append("--noTF32")
    if options.workspace_mb:
        words.append(f"--memPoolSize=workspace:{options.workspace_mb}")
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.hardware_compatibility != "none":
        first, *rest = options.hardware_compatibility.split("_")
        level = first + "".join(part.title() for part in rest)
        words.append(f"--hardwareCompatibilityLevel={level}")
    return " ".join([*words, "--profilingVerbosity=detailed"])


def _configure(
    trt: ModuleType, builder: Any, network: Any, config: Any, precision: str, options: BuildOptions
) -> None:
    for name in api.precision_flags(trt, precision):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and no float32
    if options.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != "none":
        wanted = options.hardware_compatibility.upper()
        if not hasattr(trt.HardwareCompatibilityLevel, wanted):
            raise Fault("build_failed", f"TensorRT {trt.__version__} has no {wanted}")
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, wanted)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if tensor.shape[0] == -1]
    if not dynamic and options.batch != (1, 1, 1):
        raise Fault("build_failed", "this graph has batch 1; export one with --dynamic")
    if dynamic:
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            rest = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, *((size, *rest) for size in options.batch))
        config.add_optimization_profile(profile)


def _monitor(trt: ModuleType) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer = ""

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.outer, self.line = phase, Progress(f"  {phase}", steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == self.outer:
                self.line.update(step + 1)
            return True

        def phase_finish(self, phase: str) -> None:
            if phase == self.outer:
                self.line.finish()

    return Monitor()
