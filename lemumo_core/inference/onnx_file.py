"""Parser of ONNX files without the onnx library, which the vehicle does not have."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL_DATA = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_GRAPH_LEVEL = {_GRAPH_NODE: "node", _GRAPH_INITIALIZER: "tensor", _GRAPH_SPARSE: "sparse"}
_CHILDREN = {
    "model": {_MODEL_GRAPH: "graph"},
    "graph": _GRAPH_LEVEL,
    "node": {_NODE_ATTRIBUTE: "attribute"},
    "attribute": {
        _ATTRIBUTE_TENSOR: "tensor",
        _ATTRIBUTE_TENSORS: "tensor",
        _ATTRIBUTE_GRAPH: "graph",
        _ATTRIBUTE_GRAPHS: "graph",
    },
    "sparse": {_SPARSE_VALUES: "tensor", _SPARSE_INDICES: "tensor"},
    "tensor": {_TENSOR_EXTERNAL_DATA: "entry"},
}
"""Which fields of a message lead to tensors, and to which kind of message."""


def external_data(path: Path) -> list[str]:
    """Files in which the tensors of a graph say that they keep their values.

    Returns:
        Locations as written, without repeats; empty for a graph that is whole.

    Raises:
        ValueError: if the file is no protobuf message.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return sorted(set(_locations(data, 0, len(data), "model")))
        except (IndexError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not an ONNX file, or it is damaged") from error


def _locations(data: mmap.mmap, start: int, end: int, kind: str) -> Iterator[str]:
    for number, begin, stop in _fields(data, start, end):
        child = _CHILDREN[kind].get(number)
        if child == "entry":
            entry = {n: data[b:s].decode() for n, b, s in _fields(data, begin, stop)}
            if entry.get(_ENTRY_KEY) == "location":
                yield entry.get(_ENTRY_VALUE, "")
        elif child is not None:
            yield from _locations(data, begin, stop, child)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every length-delimited field of a protobuf message."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            yield key >> 3, at, at + length
            at += length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("not protobuf")
        if at > end:
            raise ValueError("not protobuf")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("not protobuf")
