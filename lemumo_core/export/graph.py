"""A model to one ONNX graph: uint8 image in, decoded results out."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import nn

from lemumo_core.export.operators import check_operators
from lemumo_core.export.simplify import simplify
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.model.conv_towers import ConvTowers
from lemumo_core.model.patch_embed import PatchEmbed
from lemumo_core.model.perception import Outputs, PerceptionModel
from lemumo_core.preprocess import Inputs

OPSET = 18
"""TensorRT 10 takes it, and 23's Attention was seen to fail in TensorRT-RTX."""
OUTPUTS = Outputs._fields
MAX_BATCH = 64


class _NamedHeads(nn.Module):
    """Model whose heads before decoding are outputs too.

    So the exporter names their tensors.
    """

    def __init__(self, model: PerceptionModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        raw = self.model.predicted(inputs)
        return (*self.model.decode(raw, inputs.intrinsics), *raw.named().values())

    def names(self, inputs: Inputs) -> list[str]:
        """Return the names of what ``forward`` gives."""
        with torch.no_grad():
            return [*OUTPUTS, *self.model.predicted(inputs).named()]


def export_onnx(
    model: PerceptionModel,
    path: Path,
    metadata: Mapping[str, str],
    dynamic: bool = False,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Write the graph of a model in evaluation mode, and check it.

    Its outputs are ``OUTPUTS``. Tensors of heads before decoding are named as by
    ``RawPerception.named``, and can be made outputs.

    Args:
        model: in float32 or as ``half_precision`` gives it.
        path: of the file; all weights are inside.
        metadata: is written into it.
        dynamic: leave the batch size free; otherwise it is 1.
        opset: 18 to 20.

    Raises:
        ValueError: if the graph holds what TensorRT refuses (``check_operators``).
    """
    # A batch of 1 would be taken for a constant.
    inputs = random_inputs(model.config.input_spec, batch=2 if dynamic else 1)
    example = Inputs(*map(torch.from_numpy, inputs))
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    # The exporter warns about torchvision operators, which are not used here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    named = _NamedHeads(model).eval()
    with warnings.catch_warnings():
        # torch's own, of what it does itself.
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
        program = torch.onnx.export(
            named,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=list(Inputs._fields),
            output_names=named.names(example),
            dynamic_shapes=(Inputs(*({0: batch} for _ in example)),) if dynamic else None,
            verbose=False,
            optimize=False,
        )
    assert program is not None
    simplify(program.model)
    graph = program.model_proto
    del graph.graph.output[len(OUTPUTS) :]
    save_checked(graph, path, metadata)
    return graph


def save_checked(graph: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph with its metadata after ``check_operators`` and onnx's full check.

    Raises:
        ValueError: from ``check_operators``.
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: from onnx.
    """
    held = {entry.key for entry in graph.metadata_props}
    for key, value in metadata.items():
        if key not in held:
            graph.metadata_props.add(key=key, value=value)
    check_operators(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def half_precision(model: PerceptionModel) -> PerceptionModel:
    """A copy whose encoder, neck and heads are float16 and whose decoding stays float32.

    Scores that halve to the same value would tie in the decoder's peak test, and depths up to 400
    m have no centimetres in float16. Pixels are normalised in float32 and halved before they are
    embedded.
    """
    half = copy.deepcopy(model)
    for name, part in half.named_children():
        if name != "decoder":
            part.half()
    for embed in half.modules():
        if isinstance(embed, PatchEmbed | ConvTowers):
            embed.mean, embed.std = embed.mean.float(), embed.std.float()
        if isinstance(embed, PatchEmbed):
            for layer in embed.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_pre_hook(_halve)
    return half


def _halve(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.half() for tensor in inputs)
