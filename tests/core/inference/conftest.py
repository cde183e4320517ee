"""A package of a few operators, whose outputs can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lemumo_core.inference.manifest import Manifest, model_file
from lemumo_core.inference.package import Package, write_package
from lemumo_core.preprocess import InputSpec

SPEC = InputSpec(16, 32, "lidar", 2)
SHAPES = {"image": (16, 32, 3), "companion": (16, 32, 2), "intrinsics": (3, 3), "present": (2,)}


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Package:
    """float32, a stand-in for int8-cpu, and a dynamic graph; the cache is empty and its own."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "toy"
    folder.mkdir()
    for dynamic in (False, True):
        write_toy(onnx, folder / model_file("fp32", dynamic), "batch" if dynamic else 1)
    write_toy(onnx, folder / model_file("int8-cpu"), 1)
    losses = {"int8-cpu": {"depth": 0.01}}
    colors = ((1, 2, 3),)
    manifest = Manifest("toy", "1", False, {}, SPEC, ("car",), ("road",), colors, losses)
    return write_package(folder, manifest)


def write_toy(onnx, path: Path, batch) -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=kinds.FLOAT),
        node("Gather", ["pixels", "zero"], ["red"], axis=3),
        node("Gather", ["pixels", "one"], ["green"], axis=3),
        node("Gather", ["companion", "zero"], ["share"], axis=3),
        node("Mul", ["share", "range"], ["metres"]),
        node("Add", ["red", "metres"], ["depth"]),
        node("Cast", ["green"], ["labels"], to=kinds.UINT8),
        node("Cast", ["present"], ["class_ids"], to=kinds.INT64),
        node("ReduceSum", ["intrinsics", "last"], ["sums"], keepdims=0),
        node("Gather", ["sums", "zero"], ["first"], axis=1),
        node("Mul", ["first", "nothing"], ["none"]),
        node("Unsqueeze", ["none", "one"], ["nones"]),
        node("Add", ["present", "nones"], ["scores"]),
    ]
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "last": np.array([2]),
        "range": np.array(80.0, np.float32),
        "nothing": np.array(0.0, np.float32),
    }
    types = {"image": kinds.UINT8, "labels": kinds.UINT8, "class_ids": kinds.INT64}
    shapes = SHAPES | {"depth": (16, 32), "labels": (16, 32), "class_ids": (2,), "scores": (2,)}
    values = {
        name: helper.make_tensor_value_info(name, types.get(name, kinds.FLOAT), [batch, *shape])
        for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [values[name] for name in SHAPES],
        [values[name] for name in shapes if name not in SHAPES],
        [onnx.numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
