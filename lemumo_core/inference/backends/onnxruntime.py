"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.package import Package

try:
    import onnxruntime
except ImportError as error:
    raise ImportError("ONNX Runtime is missing: pip install onnxruntime") from error

DTYPES: dict[str, np.dtype] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxRuntimeBackend:
    """Runs ``model.onnx``; outputs are bound to the caller's buffers and never copied."""

    name = "onnxruntime"

    def __init__(self, package: Package):
        options = onnxruntime.SessionOptions()
        # Threads that spin between frames would burn a core each for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(package.file("model.onnx")), options, providers=["CPUExecutionProvider"]
        )
        self.outputs = {
            o.name: TensorSpec(tuple(o.shape), DTYPES[o.type]) for o in self._session.get_outputs()
        }

    def infer(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)

    def close(self) -> None:
        del self._session
