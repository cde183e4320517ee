"""A float32 graph to 8 bits. The precision lives in the graph, never in a builder's flags.

``int8`` and ``fp8`` are symmetric Q/DQ pairs around the matrix products with weights (and, for
int8, most convolutions), their ranges calibrated on the user's frames. ``int8-cpu`` needs no
calibration: ONNX Runtime finds the ranges of the activations again in every call.

ModelOpt would do as well, but its [onnx] extra pins onnx and ONNX Runtime to older versions.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime import quantization

from lemumo_core.export.graph import save_checked
from lemumo_core.preprocess import Inputs
from lemumo_core.progress import track

INT8_MAX, FP8_MAX = 127.0, 448.0
"""Largest values of int8 in symmetric use, and of float8 e4m3fn."""
FP8_OPSET = 19
FEW_OUTPUTS = 32
"""Fewer has a convolution only at the end of a head."""
LAYERS = {
    "int8": ["MatMul", "Gemm", "Conv"],
    # Three bits of mantissa round a constant background, as convolutions see it, all to one side.
    "fp8": ["MatMul", "Gemm"],
}
_SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    # Weights get a Q/DQ pair of their own, so that fp8 is made of them without rounding twice;
    # ``store_quantized`` then folds the first half.
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "MatMulConstBOnly": True,
}


def quantize(source: Path, target: Path, precision: str, frames: Iterable[Inputs]) -> None:
    """Write the quantised graph of a float32 one.

    Args:
        source: float32 graph.
        target: file to write.
        precision: ``int8``, ``fp8`` or ``int8-cpu``.
        frames: network inputs to calibrate on; not used by ``int8-cpu``.

    Raises:
        ValueError: no frames to calibrate on, an unknown precision, or ``check_operators``.
    """
    if precision == "int8-cpu":
        with _no_advice():
            quantization.quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        onnx.checker.check_model(str(target))
        return
    if precision not in LAYERS:
        raise ValueError(f"cannot quantise to {precision}; known: int8, fp8, int8-cpu")
    reader = _Frames(frames)
    if not reader.frames:
        raise ValueError(f"{precision} needs frames to calibrate on")
    layers = LAYERS[precision]
    with tempfile.TemporaryDirectory() as folder, _no_advice():
        calibrated = Path(folder) / "calibrated.onnx"
        quantization.quantize_static(
            source,
            calibrated,
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=layers,
            nodes_to_exclude=_too_fine(onnx.load(source).graph),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options=_SYMMETRIC | {"OpTypesToExcludeOutputQuantization": layers},
        )
        graph = onnx.load(calibrated)
    if precision == "fp8":
        _int8_to_fp8(graph)
    store_quantized(graph)
    save_checked(graph, target, {"precision": precision})


def _too_fine(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions for which 8 bits are too few; they take next to no time.

    The last ones of the heads tell metres and parts of pixels. Where quantities are put beside each
    other, one range does not fit them all, and OpenVINO, which gives each its own, gets it wrong:
    BEV mAP .39 became .10.
    """
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    mixed = {node.output[0] for node in graph.node if node.op_type == "Concat"}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        and (node.input[0] in mixed or weights[node.input[1]][0] < FEW_OUTPUTS)
    ]


def _int8_to_fp8(graph: onnx.ModelProto) -> None:
    """Turn int8 Q/DQ pairs into float8 ones of the same ranges, in place."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    pairs = [n for n in graph.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in pairs}:
        scale = numpy_helper.to_array(constants[name]) * np.float32(INT8_MAX / FP8_MAX)
        constants[name].CopyFrom(numpy_helper.from_array(scale, name))
    for name in {node.input[2] for node in pairs}:
        shape = tuple(constants[name].dims)
        zeros = bytes(int(np.prod(shape)))
        kind = TensorProto.FLOAT8E4M3FN
        constants[name].CopyFrom(onnx.helper.make_tensor(name, kind, shape, zeros, raw=True))
    # Float8 came with opset 19, which changed no operator of ours in any other way.
    for opset in graph.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, FP8_OPSET)
    graph.ir_version = max(graph.ir_version, 9)


def store_quantized(graph: onnx.ModelProto) -> None:
    """Replace weights that QuantizeLinear would turn into 8 bits by these bits, in place.

    Their names stay. What is left of each pair is DequantizeLinear.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in list(graph.graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            continue
        name, scale, zero = node.input
        weights = numpy_helper.to_array(constants[name])
        steps = numpy_helper.to_array(constants[scale])
        if steps.ndim == 1:  # one for each index of an axis
            axis = next(one.i for one in node.attribute if one.name == "axis")
            steps = np.moveaxis(steps.reshape(-1, *[1] * (weights.ndim - 1)), 0, axis)
        ratios = weights / steps
        if (kind := constants[zero].data_type) == TensorProto.INT8:
            ratios = np.rint(ratios).clip(-INT8_MAX - 1, INT8_MAX)
        else:
            ratios = ratios.clip(-FP8_MAX, FP8_MAX)
        stored = ratios.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        constants[name].CopyFrom(numpy_helper.from_array(stored, name))
        for other in graph.graph.node:
            other.input[:] = [name if one == node.output[0] else one for one in other.input]
        graph.graph.node.remove(node)
    del graph.graph.value_info[:]  # some of them say that the weights are float32


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Without ONNX Runtime's advice to preprocess, which the exporter's graphs do not need."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Frames(quantization.CalibrationDataReader):
    def __init__(self, frames: Iterable[Inputs]):
        self.frames = [frame._asdict() for frame in frames]
        self._next = track(self.frames, "calibrate")

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._next, None)
