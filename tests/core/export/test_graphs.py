"""The exported graphs equal the torch model, in every precision as far as that goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import onnxscript.rewriter
import pytest
import torch
from onnx import TensorProto

from lemumo_core.export.graph import OUTPUTS, export_onnx
from lemumo_core.export.outputs import raw_tensors
from lemumo_core.export.quantize import quantize, store_quantized
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.model.perception import RAW_NAMES, Outputs, PerceptionModel
from lemumo_core.preprocess import Inputs, InputSpec
from tests.helpers.onnx_notes import exporter_notes
from tests.helpers.paths import ROOT


def run(path, inputs, options=None) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), inputs._asdict()), strict=True))


def torch_outputs(model, inputs) -> dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = model(Inputs(*map(torch.from_numpy, inputs)))
    return {name: tensor.numpy() for name, tensor in outputs._asdict().items()}


def test_inputs_outputs_and_metadata(graphs, model) -> None:
    graph = onnx.load(graphs["fp32"])
    assert [i.name for i in graph.graph.input] == list(Inputs._fields)
    assert [o.name for o in graph.graph.output] == list(OUTPUTS)
    assert graph.opset_import[0].version == 18
    assert {p.key: p.value for p in graph.metadata_props}["name"] == "test"
    names = [tensor.name for tensor in graph.graph.initializer]
    assert names and not any("projector" in name or "embedding" in name for name in names)
    assert not any(node.op_type in ("Mod", "Attention") for node in graph.graph.node)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8", "int8-cpu", "dynamic"])
def test_a_graph_holds_no_notes_of_its_exporter(graphs, precision) -> None:
    """They were more than the rest of the graph, and held stack traces with local paths."""
    assert exporter_notes(onnx.load(graphs[precision])) == []
    for path in (str(ROOT), onnx.__file__, torch.__file__):
        assert str(Path(path).parent).encode() not in graphs[precision].read_bytes()


def test_notes_of_an_exporter_are_found() -> None:
    node = onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="File x.py")
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File x.py")
    graph = onnx.GraphProto(node=[node])
    graph.metadata_props.add(key="a", value="b")
    names = [field for field, _ in exporter_notes(onnx.ModelProto(graph=graph))]
    assert sorted(names) == ["doc_string", "metadata_props", "metadata_props"]


def test_float32_is_torch(graphs, model, samples) -> None:
    for sample in samples:
        expected, got = torch_outputs(model, sample.inputs), run(graphs["fp32"], sample.inputs)
        for name in ("depth", "depth_confidence", "scores"):
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5)
        assert (got["labels"] == expected["labels"]).mean() > 0.999


def test_batches_are_their_samples(graphs, model) -> None:
    """The dynamic graph gives for a batch of 3 what the static one gives for each of its rows."""
    batch = random_inputs(model.config.input_spec, 3, seed=7)
    together = run(graphs["dynamic"], batch)
    for row in range(3):
        alone = run(graphs["fp32"], Inputs(*(a[row : row + 1] for a in batch)))
        for name in ("depth", "scores"):
            np.testing.assert_allclose(together[name][row], alone[name][0], rtol=1e-4, atol=1e-5)


class EncoderAlone(PerceptionModel):
    """Each of its outputs is the encoder's tokens: tracing heads takes longest.

    Heads and decoding of any batch are in the graph ``dynamic``.
    """

    def raw(self, inputs):
        return SimpleNamespace(tokens=self.encoder(inputs).tokens, named=dict)

    def decode(self, raw, intrinsics) -> Outputs:
        return Outputs(*(raw.tokens + i for i in range(len(OUTPUTS))))


@pytest.mark.parametrize("variant", ["persistent", "early", "late"])
def test_every_encoder_takes_any_batch(model, variant, tmp_path) -> None:
    """Whatever torch makes of a batch of 1 while it traces, the graph takes 3."""
    config = replace(model.config, variant=variant, head_preset="paper")
    torch.manual_seed(0)
    model = EncoderAlone(config).eval()
    export_onnx(model, tmp_path / "any.onnx", {"name": "test"}, dynamic=True)
    batch = random_inputs(config.input_spec, 3, seed=7)
    expected, got = torch_outputs(model, batch), run(tmp_path / "any.onnx", batch)
    for name in ("depth", "scores"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5)


def test_nothing_is_left_to_simplify(graphs) -> None:
    """No rule of onnxscript's whole list finds anything after the few that are applied."""
    graph = onnx.load(graphs["dynamic"])
    again = onnxscript.rewriter.rewrite(graph)
    assert [node.op_type for node in again.graph.node] == [n.op_type for n in graph.graph.node]


def test_half_precision_keeps_decoding_in_float32(graphs, model, samples) -> None:
    graph = onnx.load(graphs["fp16"])
    weights = {t.name: t.data_type for t in graph.graph.initializer}
    halves = [n for n, kind in weights.items() if kind == TensorProto.FLOAT16]
    assert len(halves) > 40
    kinds = {o.name: o.type.tensor_type.elem_type for o in graph.graph.output}
    assert all(kinds[name] == TensorProto.FLOAT for name in ("boxes", "scores", "depth"))
    got, expected = run(graphs["fp16"], samples[0].inputs), torch_outputs(model, samples[0].inputs)
    np.testing.assert_allclose(got["depth"], expected["depth"], rtol=5e-3)
    assert np.abs(got["scores"] - expected["scores"]).max() < 1e-3


def quantized(path, kind) -> list[onnx.NodeProto]:
    graph = onnx.load(path)
    zeros = {t.name: t for t in graph.graph.initializer}
    nodes = [n for n in graph.graph.node if n.op_type == "DequantizeLinear"]
    weights = [zeros[n.input[0]].data_type for n in nodes if n.input[0] in zeros]
    assert weights and set(weights) == {kind}
    for node in nodes:
        zero = zeros[node.input[2]]
        assert zero.data_type == kind
        assert not onnx.numpy_helper.to_array(zero).astype(np.float32).any()
    return nodes


def test_8_bit_graphs_are_symmetric_pairs(graphs) -> None:
    int8 = quantized(graphs["int8"], TensorProto.INT8)
    fp8 = quantized(graphs["fp8"], TensorProto.FLOAT8E4M3FN)
    plain = onnx.load(graphs["fp32"]).graph
    layers = plain.node
    products = sum(n.op_type == "MatMul" for n in layers)
    rows = {t.name: t.dims[0] for t in plain.initializer if t.dims}
    weights = [n.input[1] for n in layers if n.op_type == "Conv"]
    outputs = {name.removesuffix(".weight"): rows[name] for name in weights}
    as_they_are = {name for name, count in outputs.items() if count < 32} | {
        "model.neck.details.0.0"
    }
    assert as_they_are > {
        "model.depth.chosen.layer",
        "model.centernet.heatmap",
        "model.segmentation.layers.1",
    }
    kinds = {t.name: t.data_type for t in onnx.load(graphs["int8"]).graph.initializer}
    for name in outputs:
        kind = TensorProto.FLOAT if name in as_they_are else TensorProto.INT8
        assert kinds[f"{name}.weight"] == kind, name
    convolutions = len(outputs) - len(as_they_are)
    assert len(int8) > len(fp8) > products / 2
    assert len(int8) - len(fp8) >= convolutions  # whose weights at least have a pair of their own
    assert onnx.load(graphs["fp8"]).opset_import[0].version >= 19


@pytest.mark.parametrize("precision", ["int8", "fp8", "int8-cpu"])
def test_8_bit_results_stay_near(graphs, samples, precision) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    expected = run(graphs["fp32"], samples[0].inputs)
    got = run(graphs[precision], samples[0].inputs, options)
    error = np.abs(got["depth"] - expected["depth"]).mean() / expected["depth"].mean()
    assert 1e-6 < error < 0.05


def test_fp8_has_the_ranges_of_int8(graphs, model, samples, tmp_path) -> None:
    """The largest value that each pair can hold is the same: 127 int8 steps, 448 float8 ones."""

    def ranges(path, largest) -> dict[str, np.ndarray]:
        graph = onnx.load(path).graph
        values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        pairs = [n for n in graph.node if n.op_type == "DequantizeLinear"]
        return {n.input[0]: values[n.input[1]] * largest for n in pairs}

    int8, fp8 = ranges(graphs["int8"], 127.0), ranges(graphs["fp8"], 448.0)
    assert fp8.keys() <= int8.keys()
    for name, value in fp8.items():
        np.testing.assert_allclose(value, int8[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.FLOAT8E4M3FN])
def test_stored_weights_are_those_that_the_runtime_would_have_made(kind) -> None:
    """Equal to ONNX Runtime's own QuantizeLinear: halves, ranges exceeded, one scale a row."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 2.0, 16).astype(np.float32)
    halves = np.arange(-40, 40, 0.5, np.float32) * scales[:, None]
    weights = np.hstack([halves, rng.normal(0, 300, (16, 400)).astype(np.float32)])
    zero = onnx.helper.make_tensor("zero", kind, [16], bytes(16), raw=True)
    constants = {"weight": weights, "scale": scales}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("QuantizeLinear", ["weight", "scale", "zero"], ["q"], axis=0),
            onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out"], axis=0),
        ],
        "pair",
        [],
        [onnx.helper.make_tensor_value_info("out", TensorProto.FLOAT, weights.shape)],
        [*(onnx.numpy_helper.from_array(v, k) for k, v in constants.items()), zero],
    )
    opset = onnx.helper.make_opsetid("", 19)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})
    store_quantized(model)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear"]
    assert {t.name: t.data_type for t in model.graph.initializer}["weight"] == kind
    (got,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(got)) > 1000


def test_calibration_needs_frames(graphs, tmp_path) -> None:
    with pytest.raises(ValueError, match="needs frames"):
        quantize(graphs["fp32"], tmp_path / "x.onnx", "int8", [])
    with pytest.raises(ValueError, match="cannot quantise to int4"):
        quantize(
            graphs["fp32"],
            tmp_path / "x.onnx",
            "int4",
            [random_inputs(InputSpec(64, 96, "lidar", 2))],
        )


def test_raw_heads_are_the_models(graphs, model, samples) -> None:
    graph = onnx.load(graphs["fp32"])
    names = raw_tensors(graph)
    for name in names:
        graph.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    got = dict(zip(names, session.run(names, samples[0].inputs._asdict()), strict=True))
    with torch.no_grad():
        raw = model.raw(Inputs(*map(torch.from_numpy, samples[0].inputs)))
    expected = raw.named()
    assert got.keys() == expected.keys() == RAW_NAMES
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8", "int8-cpu", "dynamic"])
def test_raw_heads_keep_their_names_in_every_graph(graphs, precision) -> None:
    assert set(raw_tensors(onnx.load(graphs[precision]))) == RAW_NAMES
