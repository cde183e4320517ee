"""TensorRT and TensorRT for RTX: an engine from the cache, with numpy and the driver alone."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference import tensorrt_api as api
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.cuda_driver import CudaError, CudaStream, find_gpu
from lemumo_core.inference.engine_cache import EngineKey, find_engine
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import Inputs

log = logging.getLogger(__name__)


class TensorRtBackend:
    """Runs an engine that ``lemumo build-engine`` built on this machine.

    Inputs and outputs go through page-locked buffers. Copies and network are recorded once as a
    CUDA graph, so that a frame costs one launch.

    Raises:
        Fault: ``no_engine`` if the cache holds none for this model, TensorRT and GPU,
            ``wrong_engine`` if TensorRT refuses it.
    """

    def __init__(self, runtime: str, package: Package, precision: str, batch: int):
        self.name = f"{runtime}:{precision}"
        gpu = find_gpu()  # before TensorRT is touched: without a driver it may crash
        trt = api.load_tensorrt(runtime)
        graph = package.file(model_file(precision, dynamic=batch > 1))
        sha256 = package.graph_sha256(graph.name)
        batches = (batch, batch, batch)
        key = EngineKey.here(sha256, runtime, trt.__version__, gpu, precision, batches, {})
        path, plan = find_engine(cache_folder() / "engines", key)
        self._runtime = trt.Runtime(api.logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise Fault(
                "wrong_engine", f"TensorRT refuses {path} ({api.last_errors(trt)}); build it again"
            )
        self._context = self._engine.create_execution_context()
        self._stream = CudaStream()
        names = api.tensors(self._engine)
        self._inputs = [name for name in names if api.is_input(trt, self._engine, name)]
        api.set_shapes(
            self._context,
            {n: (batch, *tuple(self._engine.get_tensor_shape(n))[1:]) for n in self._inputs},
        )
        self._host: dict[str, np.ndarray] = {}
        self._device: dict[str, int] = {}
        for name in names:
            shape = tuple(self._context.get_tensor_shape(name))
            self._host[name] = self._stream.pinned_array(
                shape, api.dtype_of(trt, self._engine, name)
            )
            self._device[name] = self._stream.device_buffer(self._host[name].nbytes)
            self._context.set_tensor_address(name, self._device[name])
        self.outputs = {
            name: TensorSpec(self._host[name].shape, self._host[name].dtype)
            for name in names
            if name not in self._inputs
        }
        self._graph = self._record()

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """Run once, see ``Backend.infer``."""
        self._stream.enter()
        for name in self._inputs:
            array = getattr(inputs, name)
            np.copyto(self._host[name][: len(array)], array)
        if self._graph is None:
            self._enqueue()
        else:
            self._stream.launch(self._graph)
        self._stream.synchronize()
        for name, array in outputs.items():
            np.copyto(array, self._host[name][: len(array)])

    def close(self) -> None:
        # The context before the engine, the engine before the runtime: each points to the next.
        """Free engine and device memory."""
        del self._context, self._engine, self._runtime
        self._host = {}
        self._stream.close()

    def _enqueue(self) -> None:
        for name in self._inputs:
            self._stream.upload(self._device[name], self._host[name])
        if not self._context.execute_async_v3(self._stream.handle):
            raise Fault("backend_failed", "TensorRT could not enqueue the network")
        for name in self.outputs:
            self._stream.download(self._host[name], self._device[name])

    def _record(self) -> ctypes.c_void_p | None:
        """The CUDA graph of one frame; None where the engine cannot be captured."""
        self._enqueue()  # the first run allocates, which a capture forbids
        self._stream.synchronize()
        self._stream.begin_capture()
        try:
            self._enqueue()
        except Fault:
            log.warning("%s: this engine cannot be captured; it runs without a graph", self.name)
            try:
                self._stream.end_capture()
            except CudaError as error:
                log.debug("the broken capture ends with %s", error)
            return None
        return self._stream.end_capture()
