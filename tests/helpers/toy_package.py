"""A package whose network is a handful of operators: quick to write, load and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lemumo_core.inference.manifest import Manifest, model_file
from lemumo_core.inference.package import write_package
from lemumo_core.preprocess import InputSpec

HEIGHT, WIDTH, CELL = 64, 96, 4


def write_toy_package(folder: Path, name: str = "toy", companion: str = "lidar") -> Path:
    """Depth is the image's red, plus the LiDAR's farthest depth in cells of 4x4 pixels, plus the
    number of sensors; labels are the red in four steps; three boxes are always there. There is a
    graph of one sample, and one of any number."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    node, rows, columns = helper.make_node, HEIGHT // CELL, WIDTH // CELL
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Slice", ["pixels", "begin", "end", "axes", "step"], ["cells"]),
        node("Gather", ["cells", "zero"], ["red"], axis=3),
        node("Transpose", ["companion"], ["channels"], perm=[0, 3, 1, 2]),
        node("MaxPool", ["channels"], ["pooled"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        node("Gather", ["pooled", "zero"], ["share"], axis=1),
        node("Gather", ["pooled", "one"], ["depth_confidence"], axis=1),
        node("Mul", ["share", "range"], ["metres"]),
        node("Add", ["red", "metres"], ["sum"]),
        node("ReduceSum", ["present"], ["sensors"], keepdims=1),
        node("Add", ["sum", "sensors"], ["depth"]),
        node("Div", ["red", "quarter"], ["steps"]),
        node("Cast", ["steps"], ["labels"], to=TensorProto.UINT8),
        node("ReduceMax", ["present"], ["seen"], axes=[1], keepdims=1),
        node("Mul", ["seen", "likely"], ["scores"]),
        node("Shape", ["scores"], ["count"], end=1),
        node("Concat", ["count", "ones"], ["repeat"], axis=0),
        node("Tile", ["kinds", "repeat"], ["class_ids"]),
        node("Concat", ["count", "ones", "ones"], ["repeat_each"], axis=0),
        node("Tile", ["objects", "repeat_each"], ["boxes"]),
    ]
    car = [2.0, 1.0, 10.0, 4.0, 1.8, 1.6, 0.3]
    constants = {
        "begin": np.array([0, 0]),
        "end": np.array([HEIGHT, WIDTH]),
        "axes": np.array([1, 2]),
        "step": np.array([CELL, CELL]),
        "zero": np.array(0),
        "one": np.array(1),
        "ones": np.array([1]),
        "range": np.array(80.0, np.float32),
        "quarter": np.array(64.0, np.float32),
        "likely": np.array([[0.9, 0.5, 0.01]], np.float32),
        "objects": np.array([[car, car, car]], np.float32),
        "kinds": np.array([[0, 1, 0]]),
    }
    image = {"image": (HEIGHT, WIDTH, 3), "companion": (HEIGHT, WIDTH, 2)}
    inputs = image | {"intrinsics": (3, 3), "present": (2,)}
    maps = {name: (rows, columns) for name in ("depth", "depth_confidence", "labels")}
    outputs = maps | {"boxes": (3, 7), "scores": (3,), "class_ids": (3,)}
    types = {"image": TensorProto.UINT8, "labels": TensorProto.UINT8}
    types["class_ids"] = TensorProto.INT64

    def values(shapes: dict, batch: int | str) -> list:
        return [
            helper.make_tensor_value_info(key, types.get(key, TensorProto.FLOAT), [batch, *shape])
            for key, shape in shapes.items()
        ]

    folder.mkdir(parents=True, exist_ok=True)
    weights = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    for batch in (1, "batch"):
        ends = values(inputs, batch), values(outputs, batch)
        graph = helper.make_graph(nodes, "toy", *ends, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model, full_check=True)
        save(model, folder / model_file(dynamic=batch != 1))
    colors = tuple((60 * i, 10, 20) for i in range(4))
    spec = InputSpec(HEIGHT, WIDTH, companion, 2)
    names = ("road", "car", "tree", "sky")
    write_package(folder, Manifest(name, "1.0", False, {}, spec, ("car", "cyclist"), names, colors))
    return folder
