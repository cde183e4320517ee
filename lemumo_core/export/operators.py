"""Search of graphs for what TensorRT's parser is known to reject, before they are exported.

Each rule was seen to be TensorRT-RTX's own verdict, and ``tests/export`` asks it again; but for
unsigned Q/DQ, which it takes for signed with a mere warning.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

MAX_TOP_K = 3840
SIXTEEN_BIT = (TensorProto.UINT16, TensorProto.INT16)
UINT8_CONSUMERS = ("Cast", "Shape")
NOT_IN_TENSORRT = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")


def check_operators(graph: onnx.ModelProto) -> None:
    """Refuse what TensorRT refuses.

    Raises:
        ValueError: naming every offending node or input.
    """
    if problems := list(_problems(graph)):
        raise ValueError("TensorRT would refuse this graph: " + "; ".join(problems))


def _problems(graph: onnx.ModelProto) -> Iterator[str]:
    types = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, kind in types.items():
        if kind in SIXTEEN_BIT:
            yield f"input {name} is a 16-bit integer; it takes float32 or int32"
    for node in graph.graph.node:
        for name in node.input:
            if types.get(name) == TensorProto.UINT8 and node.op_type not in UINT8_CONSUMERS:
                yield f"uint8 input {name} feeds {node.op_type}; only Cast may take it"
        if node.op_type in NOT_IN_TENSORRT:
            yield f"{node.op_type} {node.name} (an int8-cpu graph is for ONNX Runtime only)"
        if node.op_type == "TopK" and node.input[1] in constants:
            k = int(onnx.numpy_helper.to_array(constants[node.input[1]]).max())
            if k > MAX_TOP_K:
                yield f"TopK with K={k}; it takes at most {MAX_TOP_K}"
        if node.op_type == "Resize" and any(a.name == "antialias" and a.i for a in node.attribute):
            yield f"antialiased Resize {node.name}"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = constants.get(node.input[2])
            if zero is not None and not _is_symmetric(zero):
                yield f"{node.op_type} {node.name} is unsigned or has a zero point other than 0"


def _is_symmetric(zero: onnx.TensorProto) -> bool:
    signed = zero.data_type != TensorProto.UINT8
    return signed and not np.any(onnx.numpy_helper.to_array(zero).astype(np.float32))
