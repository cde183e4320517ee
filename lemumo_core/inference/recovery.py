"""Backend that survives failures of its runtime: out of memory, lost devices, crashed kernels."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.inference.backends import Backend, load_backend
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import Inputs

log = logging.getLogger(__name__)

FALLBACK = "onnxruntime:fp32"


class RecoveringBackend:
    """Backend of ``load_backend`` that repeats failed inferences.

    After a failure the runtime is closed and loaded again, which frees what it held on the device,
    and the inference is repeated once; if that fails too, it is repeated and continued on
    ``FALLBACK``, for an error of the CUDA driver lasts as long as the process.

    Args:
        package: verified model package.
        name: as for ``load_backend``.
        batch: as for ``load_backend``.

    Attributes:
        name: of the backend in use.
        outputs: of the backend.
        trouble: the last failure and what came of it; empty while there was none.

    Raises:
        Fault: as ``load_backend``.
    """

    def __init__(self, package: Package, name: str, batch: int = 1):
        self._package, self._batch = package, batch
        self._backend: Backend | None = load_backend(package, name, batch)
        self.name, self.outputs = self._backend.name, self._backend.outputs
        self.trouble = ""

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """As ``Backend.infer``.

        Raises:
            Fault: ``engine_failed``; the next call tries again.
        """
        errors = []
        if self._backend is not None:
            try:
                return self._backend.infer(inputs, outputs)
            except Exception as error:  # runtimes raise what they like
                errors.append(f"{self.name} failed: {error!r}")
        for name in dict.fromkeys((self.name, FALLBACK)):
            try:
                self._load(name)
                assert self._backend is not None
                self._backend.infer(inputs, outputs)
            except Exception as error:
                errors.append(f"{name} loaded again failed: {error!r}")
            else:
                self.name = name
                self.trouble = "; ".join([*errors, f"now on {name}, loaded again"])
                log.warning("%s", self.trouble)
                return
        self._close()
        self.trouble = "; ".join(errors)
        raise Fault("engine_failed", f"the engine does not run: {self.trouble}")

    def close(self) -> None:
        """Free everything."""
        self._close()

    def _load(self, name: str) -> None:
        self._close()
        self._backend = load_backend(self._package, name, self._batch)

    def _close(self) -> None:
        """Free what can be freed: a runtime that failed may fail at that too."""
        backend, self._backend = self._backend, None
        if backend is not None:
            try:
                backend.close()
            except Exception as error:
                log.warning("%s did not close: %r", self.name, error)
