"""What our checker refuses, TensorRT-RTX refuses too, and what we export it takes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lemumo_core.export.operators import check_operators
from lemumo_core.export.trt_build import BuildOptions, build
from lemumo_core.faults import Fault
from lemumo_core.inference.tensorrt_api import load_tensorrt

FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8


def graph_of(nodes, kind=FLOAT, shape=(1, 8), out=FLOAT, out_shape=None, constants=()):
    source = helper.make_tensor_value_info("x", kind, shape)
    result = helper.make_tensor_value_info("y", out, out_shape)
    graph = helper.make_graph(nodes, "g", [source], [result], list(constants))
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def node(op, inputs, outputs, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"the_{op}", **attributes)


def constant(name, value, dtype) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def quantized(zero, dtype, kind):
    pair = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    return graph_of(
        pair, constants=[constant("scale", 0.1, np.float32), constant("zero", zero, dtype)]
    )


def top_k(k):
    nodes = [node("TopK", ["x", "k"], ["y", "i"])]
    return graph_of(nodes, shape=(1, 5000), constants=[constant("k", [k], np.int64)])


def resize(antialias):
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=antialias)]
    scale = constant("s", [1, 1, 0.5, 0.5], np.float32)
    return graph_of(nodes, shape=(1, 1, 8, 8), constants=[scale])


def cast_first(order):
    cast = ["Cast", {"to": FLOAT}]
    transpose = ["Transpose", {"perm": [1, 0]}]
    (a, a_attributes), (b, b_attributes) = [cast, transpose][::order]
    return graph_of(
        [node(a, ["x"], ["m"], **a_attributes), node(b, ["m"], ["y"], **b_attributes)], UINT8
    )


def dynamic_product():
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z"], ["i"]),
        node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    return graph_of(nodes, constants=[constant("w", np.ones((8, 4)), np.int8)])


REFUSED = {
    "uint8 feeds Transpose": (cast_first(-1), "uint8 input x feeds Transpose"),
    "K too large": (top_k(4000), "K=4000"),
    "uint16 input": (graph_of([node("Cast", ["x"], ["y"], to=FLOAT)], 4), "16-bit"),
    "int16 input": (graph_of([node("Cast", ["x"], ["y"], to=FLOAT)], 5), "16-bit"),
    "antialias": (resize(1), "antialiased Resize the_Resize"),
    "asymmetric Q/DQ": (quantized(3, np.int8, INT8), "zero point other than 0"),
    "dynamic quantisation": (dynamic_product(), "DynamicQuantizeLinear"),
}
TAKEN = {
    "Cast first": cast_first(1),
    "K at the limit": top_k(3840),
    "plain Resize": resize(0),
    "symmetric Q/DQ": quantized(0, np.int8, INT8),
}


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")
    return load_tensorrt("tensorrt-rtx")


def rtx_takes(rtx, graph, path) -> bool:
    path.write_bytes(graph.SerializeToString())
    kinds = {n.op_type for n in graph.graph.node}
    precision = "int8" if "QuantizeLinear" in kinds else "fp32"
    try:
        build(rtx, path, precision, BuildOptions())
    except Fault as fault:
        assert fault.reason in ("unsupported_graph", "build_failed"), fault
        return False
    return True


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(rtx, name, tmp_path) -> None:
    graph, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        check_operators(graph)
    assert not rtx_takes(rtx, graph, tmp_path / "g.onnx")


def test_unsigned_pairs_are_refused_since_rtx_would_misread_them(rtx, tmp_path, caplog) -> None:
    """It takes uint8 for int8 with nothing but a warning, which cuts the upper half off."""
    graph = quantized(0, np.uint8, UINT8)
    with pytest.raises(ValueError, match="the_QuantizeLinear is unsigned"):
        check_operators(graph)
    assert rtx_takes(rtx, graph, tmp_path / "g.onnx")
    assert "Defaulting to INT8" in caplog.text


@pytest.mark.parametrize("name", TAKEN)
def test_taken_by_both(rtx, name, tmp_path) -> None:
    check_operators(TAKEN[name])
    assert rtx_takes(rtx, TAKEN[name], tmp_path / "g.onnx")
