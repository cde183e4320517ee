"""OpenVINO on the CPU."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.compiled_graphs import compiled_graph
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import Inputs

TELEMETRY = "openvino_telemetry"
"""Package without which OpenVINO sends nothing."""
HEAVY = ("Convolution", "FullyConnected")
"""Layers where the time goes, nearly all quantised in an int8 graph."""


class OpenVinoBackend:
    """Runs a graph of the package on the caller's buffers, without copies.

    Raises:
        Fault: ``backend_failed`` if OpenVINO cannot load the graph, or would not run most layers of
            ``HEAVY`` of an int8 one in 8 bits: not every processor can.
    """

    # Left to itself it takes bfloat16 wherever the processor has it.
    OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}  # noqa: RUF012

    def __init__(self, runtime: str, package: Package, precision: str, batch: int):
        openvino = import_openvino()
        self.name = f"{runtime}:{precision}"
        path = package.file(model_file(precision, dynamic=batch > 1))
        core = openvino.Core()

        def load(kept: bytes) -> Any:
            return core.import_model(io.BytesIO(kept), "CPU", self.OPTIONS)

        def prepare() -> tuple[Any, bytes]:
            compiled = self._compile(core, path, batch)
            if precision == "int8":
                self._check_8_bits(compiled)
            return compiled, compiled.export_model().getvalue()

        version = openvino.__version__
        compiled = compiled_graph(
            package, path, self.name, version, batch, self.OPTIONS, load, prepare
        )
        self._request, self._tensor = compiled.create_infer_request(), openvino.Tensor
        self.outputs = {
            o.any_name: TensorSpec(
                (batch, *(size.get_length() for size in list(o.partial_shape)[1:])),
                np.dtype(o.element_type.to_dtype()),
            )
            for o in compiled.outputs
        }

    def _compile(self, core: Any, path: Path, batch: int) -> Any:
        openvino = import_openvino()
        try:
            model = core.read_model(path)
            if batch > 1:
                samples = openvino.Dimension(1, batch)
                model.reshape({i.any_name: [samples, *i.partial_shape[1:]] for i in model.inputs})
            return core.compile_model(model, "CPU", self.OPTIONS)
        except RuntimeError as error:
            raise Fault("backend_failed", f"{self.name} cannot load {path}: {error}") from error

    def _check_8_bits(self, compiled: Any) -> None:
        layers = _heavy_layers(compiled)
        if layers["i8"] + layers["u8"] <= layers.total() / 2:
            shown = ", ".join(f"{count} in {kind}" for kind, count in sorted(layers.items()))
            raise Fault("backend_failed", f"{self.name} would run here, of its layers, {shown}")

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """Run once, see ``Backend.infer``."""
        for name, array in (*inputs._asdict().items(), *outputs.items()):
            self._request.set_tensor(name, self._tensor(array, shared_memory=True))
        self._request.infer()

    def close(self) -> None:
        """Free the compiled model."""
        del self._request


def import_openvino() -> Any:
    """Import OpenVINO, which is optional, without its telemetry.

    That sends an event at every import, with an id that it leaves in the home folder. A robot does
    not call anybody unless its user asked for it.

    Raises:
        ImportError: it is not installed.
    """
    if not {"openvino", TELEMETRY} & sys.modules.keys():
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # its import fails
        try:
            import openvino
        finally:
            del sys.modules[TELEMETRY]
    import openvino

    return openvino


def _heavy_layers(compiled: Any) -> Counter[str]:
    """How many layers of ``HEAVY`` run in which precision."""
    infos = [layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops()]
    return Counter(
        info["runtimePrecision"].astype(str)
        for info in infos
        if info["layerType"].astype(str) in HEAVY
    )
