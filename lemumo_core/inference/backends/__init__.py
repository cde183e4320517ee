"""Runtimes of a model package, behind one protocol."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, Protocol

import numpy as np

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.inference.cuda_driver import why_no_gpu
from lemumo_core.inference.manifest import PRECISIONS
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import Inputs


class TensorSpec(NamedTuple):
    """Shape and dtype of one network input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Backend(Protocol):
    """A loaded network. One caller at a time.

    Attributes:
        name: ``RUNTIME:PRECISION``, as it was chosen.
        outputs: what ``infer`` fills.
    """

    name: str
    outputs: dict[str, TensorSpec]

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """Run once, on as many samples as the backend was loaded for, or fewer.

        Args:
            inputs: C-contiguous arrays, as ``preprocess`` gives them.
            outputs: arrays of ``self.outputs``' shapes and dtypes, but of as many samples as the
                inputs, which are overwritten.
        """

    def close(self) -> None:
        """Free everything; the backend cannot be used afterwards."""


class Runtime(NamedTuple):
    """A way to run a package.

    Attributes:
        backend: ``module:Class`` below this package, made with (runtime's name, package,
            precision, batch).
        needs: module that must be installed.
        install: what installs it.
        gpu: whether it needs an NVIDIA GPU.
        precisions: those worth running on it.
        judged_alone: of these, those that it computes unlike ONNX Runtime, which judges the graphs
            of a package: they have a gate of their own, and losses by ``RUNTIME:PRECISION``.
    """

    backend: str
    needs: str
    install: str
    gpu: bool
    precisions: tuple[str, ...]
    judged_alone: tuple[str, ...] = ()


_ORT = "onnxruntime:OnnxRuntimeBackend"
_ORT_GPU = "pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu"
_TORCH = install_line("train")
_QDQ = ("fp32", "fp16", "int8", "fp8")
RUNTIMES = {
    "tensorrt": Runtime("tensorrt:TensorRtBackend", "tensorrt", "pip install tensorrt", True, _QDQ),
    "tensorrt-rtx": Runtime(
        "tensorrt:TensorRtBackend", "tensorrt_rtx", "pip install tensorrt-rtx", True, _QDQ
    ),
    "onnxruntime-tensorrt": Runtime(_ORT, "onnxruntime", _ORT_GPU, True, _QDQ[:3]),
    "onnxruntime-cuda": Runtime(_ORT, "onnxruntime", _ORT_GPU, True, _QDQ[:2]),
    "onnxruntime": Runtime(
        _ORT, "onnxruntime", "pip install onnxruntime", False, ("fp32", "int8-cpu")
    ),
    "openvino": Runtime(
        *("openvino:OpenVinoBackend", "openvino", "pip install openvino", False),
        precisions=("fp32", "int8"),
        judged_alone=("int8",),
    ),
    "torch-compile": Runtime("torch:TorchBackend", "torch", _TORCH, False, ("fp32",)),
    "torch": Runtime("torch:TorchBackend", "torch", _TORCH, False, ("fp32",)),
}
"""By name. The torch ones are the reference that the others are held against."""


def split_name(name: str) -> tuple[str, str | None]:
    """``RUNTIME[:PRECISION]`` to its parts; RUNTIME may be ``auto``.

    Raises:
        Fault: ``unknown_backend``.
    """
    runtime, _, precision = name.partition(":")
    if runtime not in ("auto", *RUNTIMES):
        known = ", ".join(("auto", *RUNTIMES))
        raise Fault("unknown_backend", f"unknown backend '{runtime}'; known: {known}")
    if precision and precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise Fault("unknown_backend", f"unknown precision '{precision}'; known: {known}")
    return runtime, precision or None


def unavailable_reason(runtime: str) -> str | None:
    """Return why a runtime cannot be used on this machine; None where it can."""
    kind = RUNTIMES[runtime]
    if importlib.util.find_spec(kind.needs) is None:
        return f"not installed: {kind.install}"
    return why_no_gpu() if kind.gpu else None


def load_backend(package: Package, name: str, batch: int = 1) -> Backend:
    """Load a package's network.

    Args:
        package: verified by ``load_package``.
        name: ``RUNTIME[:PRECISION]``, of ``RUNTIMES`` and ``PRECISIONS``; float32 where no
            precision is given. ``selection.resolve_backend`` finds one for ``auto``.
        batch: most samples in one call; above 1 the package must hold the dynamic graph.

    Raises:
        Fault: ``unknown_backend``; ``no_backend`` if it cannot run here, with what to install;
            ``bad_package`` if the package lacks the graph; ``backend_failed``, ``no_engine`` or
            ``wrong_engine`` from the runtime.
    """
    runtime, precision = split_name(name)
    if runtime == "auto":
        raise Fault("unknown_backend", f"{name} names no runtime: resolve_backend finds one")
    if reason := unavailable_reason(runtime):
        raise Fault("no_backend", f"backend {runtime} cannot run here: {reason}")
    module, _, kind = RUNTIMES[runtime].backend.partition(":")
    make = getattr(import_module(f"{__name__}.{module}"), kind)
    backend: Backend = make(runtime, package, precision or "fp32", batch)
    return backend
