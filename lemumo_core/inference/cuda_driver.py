"""The few calls of the CUDA driver that a TensorRT engine needs, by ctypes: no torch, no cupy.

Function names and signatures are those of cuda.h (CUDA driver API); the library comes with the
driver, so that nothing has to be installed.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.faults import Fault

LIBRARY = "libcuda.so.1"
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


@dataclass(frozen=True)
class Gpu:
    """GPU that an engine is tied to: name, compute capability, multiprocessors, driver's CUDA."""

    name: str
    compute_capability: str
    multiprocessors: int
    driver: str


class CudaError(Fault):
    """A call of the driver failed."""

    def __init__(self, message: str):
        super().__init__("cuda", message)


def why_no_gpu() -> str | None:
    """Why no NVIDIA GPU can be used here; None where one can.

    To be asked before TensorRT is touched: without a driver its runtime can crash the process.
    """
    try:
        find_gpu()
    except CudaError as error:
        return str(error)
    return None


def find_gpu() -> Gpu:
    """The first GPU.

    Raises:
        CudaError: no driver, no GPU, or one that does not answer.
    """
    cuda = _library()
    count, device = ctypes.c_int(), ctypes.c_int()
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise CudaError("the NVIDIA driver shows no GPU (is CUDA_VISIBLE_DEVICES empty?)")
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    version = ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    values = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int()
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        values.append(value.value)
    major, minor, processors = values
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major}.{minor}", processors, driver)


class CudaStream:
    """One stream on the first GPU, with the memory and the graphs made on it.

    Raises:
        CudaError: from any method.
    """

    def __init__(self) -> None:
        self._cuda = _library()
        self._device = ctypes.c_int()
        _call(self._cuda, "cuDeviceGet", ctypes.byref(self._device), 0)
        # The primary context is the one that TensorRT's runtime API uses.
        self._context = ctypes.c_void_p()
        _call(self._cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()
        stream = ctypes.c_void_p()
        _call(self._cuda, "cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        self._stream = stream
        self._device_memory: list[ctypes.c_void_p] = []
        self._host_memory: list[ctypes.c_void_p] = []
        self._graphs: list[tuple[ctypes.c_void_p, ctypes.c_void_p]] = []

    @property
    def handle(self) -> int:
        """The CUstream, as TensorRT takes it."""
        return self._stream.value or 0

    def enter(self) -> None:
        """Make the context current in this thread: before any other call from a new thread."""
        _call(self._cuda, "cuCtxSetCurrent", self._context)

    def device_buffer(self, size: int) -> int:
        """Address of new device memory, bytes."""
        pointer = ctypes.c_void_p()
        _call(self._cuda, "cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        self._device_memory.append(pointer)
        return pointer.value or 0

    def pinned_array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """New page-locked host memory as an array; gone after ``close``."""
        size = int(np.prod(shape)) * dtype.itemsize
        pointer = ctypes.c_void_p()
        _call(self._cuda, "cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), 0)
        self._host_memory.append(pointer)
        raw = (ctypes.c_uint8 * size).from_address(pointer.value or 0)
        flat: np.ndarray = np.ctypeslib.as_array(raw).view(dtype)
        return flat.reshape(shape)

    def upload(self, device: int, host: np.ndarray) -> None:
        """Enqueue a copy to the device."""
        source, size = ctypes.c_void_p(host.ctypes.data), ctypes.c_size_t(host.nbytes)
        target = ctypes.c_void_p(device)
        _call(self._cuda, "cuMemcpyHtoDAsync_v2", target, source, size, self._stream)

    def download(self, host: np.ndarray, device: int) -> None:
        """Enqueue a copy from the device."""
        target, size = ctypes.c_void_p(host.ctypes.data), ctypes.c_size_t(host.nbytes)
        source = ctypes.c_void_p(device)
        _call(self._cuda, "cuMemcpyDtoHAsync_v2", target, source, size, self._stream)

    def synchronize(self) -> None:
        """Wait for everything enqueued."""
        _call(self._cuda, "cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """Record what is enqueued from now on, instead of running it."""
        _call(self._cuda, "cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)

    def end_capture(self) -> ctypes.c_void_p:
        """The recorded graph, ready for ``launch``."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        _call(self._cuda, "cuStreamEndCapture", self._stream, ctypes.byref(graph))
        flags = ctypes.c_ulonglong(0)
        instantiate = "cuGraphInstantiateWithFlags"
        _call(self._cuda, instantiate, ctypes.byref(executable), graph, flags)
        self._graphs.append((executable, graph))
        return executable

    def launch(self, graph: ctypes.c_void_p) -> None:
        """Enqueue a recorded graph."""
        _call(self._cuda, "cuGraphLaunch", graph, self._stream)

    def close(self) -> None:
        """Free everything made here."""
        self.enter()
        for executable, graph in self._graphs:
            _call(self._cuda, "cuGraphExecDestroy", executable)
            _call(self._cuda, "cuGraphDestroy", graph)
        for pointer in self._device_memory:
            _call(self._cuda, "cuMemFree_v2", pointer)
        for pointer in self._host_memory:
            _call(self._cuda, "cuMemFreeHost", pointer)
        _call(self._cuda, "cuStreamDestroy_v2", self._stream)
        _call(self._cuda, "cuDevicePrimaryCtxRelease_v2", self._device)
        self._graphs, self._device_memory, self._host_memory = [], [], []


def _library() -> ctypes.CDLL:
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver: {LIBRARY} is not here") from error
    _call(cuda, "cuInit", 0)
    return cuda


def _call(cuda: ctypes.CDLL, function: str, *arguments: Any) -> None:
    if status := getattr(cuda, function)(*arguments):
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(text))
        name = text.value.decode() if text.value else "unknown error"
        raise CudaError(f"{function} failed: {name} ({status})")
