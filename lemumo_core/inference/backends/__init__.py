"""Runtimes of a model package, behind one protocol."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from lemumo_core.inference.package import Package

log = logging.getLogger(__name__)

BACKENDS = ("onnxruntime", "torch")


class TensorSpec(NamedTuple):
    """Shape and dtype of one network input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Backend(Protocol):
    """A loaded network. One caller at a time."""

    name: str
    outputs: dict[str, TensorSpec]

    def infer(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        """Run once.

        Args:
            inputs: C-contiguous arrays by name, as ``NetworkInput.arrays`` gives them.
            outputs: arrays of ``self.outputs``' shapes and dtypes, which are overwritten.
        """

    def close(self) -> None:
        """Free everything; the backend cannot be used afterwards."""


def load_backend(package: Package, name: str = "auto") -> Backend:
    """Load a package's network.

    Args:
        package: verified by ``load_package``.
        name: one of ``BACKENDS`` or ``auto``, which takes ONNX Runtime where it is installed.

    Raises:
        ValueError: for an unknown name.
        ImportError: if the runtime is not installed, with the line that installs it.
    """
    if name == "auto":
        name = "onnxruntime" if importlib.util.find_spec("onnxruntime") else "torch"
        log.info("backend auto: %s", name)
    if name == "onnxruntime":
        from lemumo_core.inference.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(package)
    if name == "torch":
        from lemumo_core.inference.backends.torch import TorchBackend

        return TorchBackend(package)
    raise ValueError(f"unknown backend '{name}'; known: auto, {', '.join(BACKENDS)}")
