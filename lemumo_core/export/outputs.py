"""What a backend says of samples: its decoded outputs and, beside them, the heads before decoding.

The exported graph ends with decoded results. Its raw heads are found by what consumes them: the
heatmap feeds the sigmoid whose maxima are pooled, the regressed values are gathered at the peaks,
the label logits feed the ArgMax.
"""

from __future__ import annotations

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
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model
from lemumo_core.preprocess import Inputs

RAW = ("raw_heatmap", "raw_regression", "raw_labels")
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
    backend = load_backend(package, name)
    runtime, precision = split_name(backend.name)
    raw_heads = (
        _torch_heads(package)
        if runtime.startswith("torch")
        else _graph_heads(package, precision or "fp32")
    )
    results = []
    for sample in samples:
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
            raw = model.raw(Inputs(*map(torch.from_numpy, inputs)))
        regressed = torch.cat(raw.detections.regressed, dim=1).flatten(2)
        values = (raw.detections.heatmap, regressed, raw.segmentation)
        return {name: value.numpy() for name, value in zip(RAW, values, strict=True)}

    return run


def _graph_heads(package: Package, precision: str) -> RawHeads:
    graph = onnx.load(package.file(model_file(precision)))
    names = raw_tensors(graph)
    for name in names:
        graph.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), session_options(precision), providers=["CPUExecutionProvider"]
    )

    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        values = session.run(names, inputs._asdict())
        return {k: v.astype(np.float32) for k, v in zip(RAW, values, strict=True)}

    return run


def raw_tensors(graph: onnx.ModelProto) -> list[str]:
    """Names of the tensors ``RAW`` in an exported graph.

    Raises:
        ValueError: if it has not the one sigmoid, gather or ArgMax that show where they are.
    """
    nodes = list(graph.graph.node)
    pooled = {node.input[0] for node in nodes if node.op_type == "MaxPool"}
    found = [
        [n.input[0] for n in nodes if n.op_type == "Sigmoid" and n.output[0] in pooled],
        [n.input[0] for n in nodes if n.op_type == "GatherElements"],
        [n.input[0] for n in nodes if n.op_type == "ArgMax"],
    ]
    for name, places in zip(RAW, found, strict=True):
        if len(places) != 1:
            raise ValueError(f"the graph has {len(places)} places that could be its {name}")
    return [places[0] for places in found]
