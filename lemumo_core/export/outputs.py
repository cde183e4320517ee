"""Outputs of a backend for samples: the decoded ones and, beside them, heads before decoding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
import torch

from lemumo_core.export.parity_inputs import Sample
from lemumo_core.inference.backends import load_backend, split_name
from lemumo_core.inference.backends.onnxruntime import session_options
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package
from lemumo_core.inference.selection import resolve_backend
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import RAW_NAMES, load_model
from lemumo_core.preprocess import Inputs
from lemumo_core.progress import track

log = logging.getLogger(__name__)

RawHeads = Callable[[Inputs], dict[str, np.ndarray]]


def outputs_of(package: Package, name: str, samples: Sequence[Sample]) -> list[dict]:
    """Run a backend over samples.

    Args:
        package: verified.
        name: ``RUNTIME[:PRECISION]``.
        samples: batch 1.

    Returns:
        Arrays by name for each sample. Those that begin with ``raw_`` come from torch for the
        torch backends, and else from ONNX Runtime on the graph of the backend's precision, since
        a compiled network keeps them to itself.
    """
    backend = load_backend(package, resolve_backend(package, name).backend)
    runtime, precision = split_name(backend.name)
    raw_heads = (
        _torch_heads(package)
        if runtime.startswith("torch")
        else _graph_heads(package, precision or "fp32")
    )
    results = []
    for sample in track(samples, f"run {backend.name}"):
        out = {key: np.empty(spec.shape, spec.dtype) for key, spec in backend.outputs.items()}
        backend.infer(sample.inputs, out)
        results.append(out | raw_heads(sample.inputs))
    backend.close()
    return results


def _torch_heads(package: Package) -> RawHeads:
    config = ModelConfig.from_dict(package.manifest.model)
    model = load_model(config, package.file("weights.safetensors"))

    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            raw = model.predicted(Inputs(*map(torch.from_numpy, inputs)))
        return {name: value.numpy() for name, value in raw.named().items()}

    return run


def _graph_heads(package: Package, precision: str) -> RawHeads:
    path = package.file(model_file(precision))
    graph = onnx.load(path)
    names = raw_tensors(graph)
    if not names:
        log.warning(
            "%s names no heads before decoding, which are not compared: lemumo 0.1 exported it; "
            "export it again to compare them",
            path,
        )
        return lambda inputs: {}
    for name in names:
        graph.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), session_options(precision), providers=["CPUExecutionProvider"]
    )

    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        values = session.run(names, inputs._asdict())
        return {k: v.astype(np.float32) for k, v in zip(names, values, strict=True)}

    return run


def raw_tensors(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the tensors of an exported graph that are heads before decoding."""
    values = (name for node in graph.graph.node for name in node.output)
    return [name for name in values if name in RAW_NAMES]
