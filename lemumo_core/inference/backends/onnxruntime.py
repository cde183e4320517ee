"""ONNX Runtime: on the CPU, or on an NVIDIA GPU through its CUDA or TensorRT provider."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.compiled_graphs import compiled_graph
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import Inputs

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
DTYPES: dict[str, np.dtype] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxRuntimeBackend:
    """Runs a graph of the package; outputs are bound to the caller's buffers, never copied here.

    Raises:
        Fault: ``no_backend`` where this build lacks the provider, ``backend_failed`` if the
            session does not load or falls back to another provider.
    """

    def __init__(self, runtime: str, package: Package, precision: str, batch: int):
        self.name = f"{runtime}:{precision}"
        provider = PROVIDERS[runtime]
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise Fault(
                "no_backend",
                f"this ONNX Runtime has no {provider}, only {', '.join(available)}: "
                "pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu",
            )
        path = package.file(model_file(precision, dynamic=batch > 1))
        try:
            self._session = _session(runtime, package, path, precision, batch)
        except Exception as error:  # its own exceptions share no other base
            raise Fault("backend_failed", f"{self.name} cannot load {path}: {error}") from error
        # Unlike the CPU provider, others give way to it silently when they fail to start.
        if (first := self._session.get_providers()[0]) != provider:
            raise Fault("backend_failed", f"{runtime} fell back to {first}; see the log above")
        self.outputs = {
            o.name: TensorSpec((batch, *o.shape[1:]), DTYPES[o.type])
            for o in self._session.get_outputs()
        }

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """Run once, see ``Backend.infer``."""
        binding = self._session.io_binding()
        for name, array in inputs._asdict().items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)

    def close(self) -> None:
        """Free the session."""
        del self._session


def _session(
    runtime: str, package: Package, path: Path, precision: str, batch: int
) -> onnxruntime.InferenceSession:
    """Open a session; the graph that a CPU's is optimised to is kept."""
    options = session_options(precision, gpu=runtime != "onnxruntime")
    if runtime != "onnxruntime":
        provider = PROVIDERS[runtime], _provider_options(runtime, package, path)
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    providers = [PROVIDERS[runtime]]

    def load(kept: bytes) -> onnxruntime.InferenceSession:
        optimized = session_options(precision)
        optimized.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Weights that it left as they were may still lie in the package's file.
        folder = "session.model_external_initializers_file_folder_path"
        optimized.add_session_config_entry(folder, str(path.parent))
        try:
            return onnxruntime.InferenceSession(kept, optimized, providers=providers)
        except Exception as error:  # its own exceptions share no other base
            raise RuntimeError(str(error)) from error

    def prepare() -> tuple[onnxruntime.InferenceSession, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "optimized.onnx")
            options.optimized_model_filepath = str(file)
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            return session, file.read_bytes()

    name, version = f"{runtime}:{precision}", onnxruntime.__version__
    return compiled_graph(package, path, name, version, batch, {}, load, prepare)


def session_options(precision: str, gpu: bool = False) -> onnxruntime.SessionOptions:
    """Options of a session for a graph of a precision."""
    options = onnxruntime.SessionOptions()
    # Threads that spin between frames would burn a core each for nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if precision == "fp8":
        # Its fusions of Q/DQ know 8-bit integers only, and make an invalid graph of the rest.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not gpu:
        options.log_severity_level = 3  # on the CPU its warnings ask for nothing to be done
    return options


def _provider_options(runtime: str, package: Package, path: Path) -> dict[str, str]:
    if runtime == "onnxruntime-cuda":
        return {"use_tf32": "0"}  # float32 is float32
    if runtime != "onnxruntime-tensorrt":
        return {}
    # A folder each: its own cache tells graphs apart by their nodes, not by their weights.
    folder = cache_folder() / "onnxruntime-tensorrt" / package.graph_sha256(path.name)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
    }
