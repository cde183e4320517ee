"""A package holds its weights once: graphs take theirs from the safetensors file beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

LEAST_BYTES = 1024
"""Smaller tensors stay in the graph."""


class Stored(NamedTuple):
    """Where a tensor lies in the safetensors file, and whether a graph wants it transposed."""

    name: str
    transposed: bool


def share_weights(path: Path, weights: Path) -> None:
    """Rewrite a graph: tensors that the safetensors file holds become references to it.

    A tensor is found there by its values, in the graph's precision, as it is or transposed; the
    graph then casts and transposes what it reads, which every runtime does once, on loading.
    Tensors without a counterpart stay inside, e.g. convolutions with a batch norm folded in.

    Args:
        path: of the graph.
        weights: of the file, in the same folder, of float16 or float32 tensors.
    """
    graph = onnx.load(path)
    tensors = load_file(weights)
    offsets = _offsets(weights)
    stored = _by_value(tensors, {i.data_type for i in graph.graph.initializer})
    kept, references, nodes = [], {}, []
    for own in graph.graph.initializer:
        values = numpy_helper.to_array(own)
        found = stored.get(_key(values)) if values.nbytes >= LEAST_BYTES else None
        if found is None:
            kept.append(own)
            continue
        kind = helper.np_dtype_to_tensor_dtype(tensors[found.name].dtype)
        reference = f"{weights.name}:{found.name}"
        shape = tensors[found.name].shape
        references[reference] = _reference(
            reference, kind, shape, weights.name, offsets[found.name]
        )
        steps = [("Transpose", {"perm": [1, 0]})] if found.transposed else []
        steps += [("Cast", {"to": own.data_type})] if kind != own.data_type else []
        nodes += _chain(reference, own.name, steps or [("Identity", {})])
    del graph.graph.initializer[:]
    graph.graph.initializer.extend([*kept, *references.values()])
    body = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *body])
    onnx.save(graph, path)
    onnx.checker.check_model(str(path), full_check=True)


def _key(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return values.dtype.str, values.shape, values.tobytes()


def _by_value(tensors: dict[str, np.ndarray], kinds: set[int]) -> dict[tuple, Stored]:
    dtypes = [
        helper.tensor_dtype_to_np_dtype(kind)
        for kind in kinds & {TensorProto.FLOAT, TensorProto.FLOAT16}
    ]
    stored: dict[tuple, Stored] = {}
    for name, values in tensors.items():
        for dtype in dtypes if values.dtype.kind == "f" else []:
            cast = values.astype(dtype)
            if values.ndim == 2:
                stored[_key(np.ascontiguousarray(cast.T))] = Stored(name, True)
            stored[_key(cast)] = Stored(name, False)
    return stored


def _offsets(weights: Path) -> dict[str, tuple[int, int]]:
    """Return the offset in the file and the length of every tensor.

    The format begins with the length of a JSON header (8 bytes, little-endian) that holds where
    after it they lie.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: (8 + length + begin, end - begin)
        for name, entry in header.items()
        if name != "__metadata__"
        for begin, end in [entry["data_offsets"]]
    }


def _reference(
    name: str, kind: int, shape: tuple[int, ...], location: str, place: tuple[int, int]
) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", place[0]), ("length", place[1])):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _chain(start: str, end: str, steps: list[tuple[str, dict]]) -> list[onnx.NodeProto]:
    """Nodes that lead from one value through operators to another."""
    names = [start, *(f"{end}:{i}" for i in range(1, len(steps))), end]
    return [
        helper.make_node(operator, [names[i]], [names[i + 1]], f"{end}:{operator}", **attributes)
        for i, (operator, attributes) in enumerate(steps)
    ]
