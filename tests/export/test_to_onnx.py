"""The exported graph equals the torch model, and what TensorRT refuses is refused here."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from export.to_onnx import check_operators, export_onnx, export_package, verify
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import seeded_model


@pytest.mark.parametrize("preset", ["paper", "lemumo"])
def test_package_is_verified_and_complete(preset, tmp_path) -> None:
    config = ModelConfig(preset, "tiny", 64, 96)
    package = export_package(seeded_model(config, 0), tmp_path, "test", trained=False)
    manifest = package.manifest
    assert set(manifest.files) == {"model.onnx", "weights.safetensors"}
    assert not manifest.trained and manifest.input == config.input_spec
    assert ModelConfig.from_dict(manifest.model) == config
    graph = onnx.load(tmp_path / "model.onnx")
    assert {p.key: p.value for p in graph.metadata_props}["preset"] == preset
    names = [tensor.name for tensor in graph.graph.initializer]
    assert names and not any("projector" in name or "embedding" in name for name in names)
    assert [i.name for i in graph.graph.input] == ["image", "companion", "intrinsics", "present"]


def test_verify_notices_a_changed_model(tmp_path) -> None:
    model = seeded_model(ModelConfig("lemumo", "tiny", 64, 96), 0)
    export_onnx(model, tmp_path / "model.onnx", {})
    verify(model, tmp_path / "model.onnx", seeds=1)
    with torch.no_grad():
        model.depth.layers[-1].bias += 0.01
    with pytest.raises(ValueError, match="depth"):
        verify(model, tmp_path / "model.onnx", seeds=1)


def graph_of(node, kind, constants=()) -> onnx.ModelProto:
    source = helper.make_tensor_value_info("x", kind, [1, 8])
    result = helper.make_tensor_value_info("y", kind, None)
    return helper.make_model(helper.make_graph([node], "g", [source], [result], constants))


def test_uint8_may_only_feed_a_cast() -> None:
    with pytest.raises(ValueError, match="uint8 input x feeds Transpose"):
        check_operators(graph_of(helper.make_node("Transpose", ["x"], ["y"]), TensorProto.UINT8))
    check_operators(graph_of(helper.make_node("Cast", ["x"], ["y"], to=1), TensorProto.UINT8))


def test_top_k_is_limited() -> None:
    k = helper.make_tensor("k", TensorProto.INT64, [1], [4000])
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"])
    with pytest.raises(ValueError, match="K=4000"):
        check_operators(graph_of(node, TensorProto.FLOAT, [k]))


def test_16_bit_inputs_are_refused() -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=1)
    with pytest.raises(ValueError, match="16-bit"):
        check_operators(graph_of(node, TensorProto.UINT16))
