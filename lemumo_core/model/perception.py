"""Encoder, three heads and decoding: the whole network that is trained and exported."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.heads.centernet import CenterNetDecoder, CenterNetHead, RawDetections
from lemumo_core.model.heads.centernet_2d import (
    CenterNet2dDecoder,
    CenterNet2dHead,
    RawDetections2d,
)
from lemumo_core.model.heads.depth import DepthHead
from lemumo_core.model.heads.neck import WIDTH, Neck
from lemumo_core.model.heads.segmentation import SegmentationHead
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs


class RawPerception(NamedTuple):
    """What the heads say before decoding; the losses act on it."""

    detections: RawDetections | RawDetections2d
    depth_m: Tensor
    depth_confidence: Tensor
    segmentation: Tensor


class Outputs(NamedTuple):
    """The network's outputs, in the order and with the names of the exported graph.

    boxes float32 (B, K, 7), or (B, K, 4) of a model that detects in 2D, scores float32 (B, K),
    class_ids int64 (B, K), depth and depth_confidence float32 (B, H/4, W/4), labels uint8
    (B, H/4, W/4).
    """

    boxes: Tensor
    scores: Tensor
    class_ids: Tensor
    depth: Tensor
    depth_confidence: Tensor
    labels: Tensor


class PerceptionModel(nn.Module):
    """The perception network of a ``ModelConfig``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        preset, classes = config.heads_as, len(config.detection_classes)
        self.encoder = build_encoder(config)
        for part in self.encoder.FOR_PRETRAINING:
            delattr(self.encoder, part)
        self.neck = Neck(config, self.encoder.stems.modalities) if preset == "deploy" else None
        width = WIDTH if self.neck else config.token_dim
        flat = config.detection == "2d"
        self.centernet = (CenterNet2dHead if flat else CenterNetHead)(width, classes, preset)
        self.depth = DepthHead(width, preset)
        self.segmentation = SegmentationHead(width, len(config.segmentation_classes), preset)
        self.decoder = (CenterNet2dDecoder if flat else CenterNetDecoder)(
            classes, config.height, config.width, self.centernet.stride
        )

    def raw(self, inputs: Inputs) -> RawPerception:
        """Return the predictions before decoding."""
        return self.heads(self.encoder(inputs).tokens, inputs)

    def heads(self, tokens: Tensor, inputs: Inputs) -> RawPerception:
        """What the heads say of the encoder's tokens (B, N, D') and the inputs."""
        maps, log_depths = tokens.transpose(1, 2).unflatten(2, self.config.grid), None
        if self.neck:
            maps, log_depths = self.neck(tokens, inputs)
        depth_m, confidence = self.depth(maps, log_depths)
        if log_depths is not None:  # objects learn from depth, not depth from objects
            log_depth = (1.0 + depth_m.detach()).log().unsqueeze(1)
            log_depths = torch.cat([log_depths, log_depth], dim=1)
        if isinstance(self.centernet, CenterNet2dHead):
            detections: Any = self.centernet(maps)
        else:
            detections = self.centernet(maps, log_depths)
        return RawPerception(detections, depth_m, confidence, self.segmentation(maps))

    def forward(self, inputs: Inputs) -> Outputs:
        """Return what is seen in inputs of B views."""
        raw = self.raw(inputs)
        if isinstance(self.decoder, CenterNet2dDecoder):
            boxes, scores, class_ids = self.decoder(raw.detections)
        else:
            boxes, scores, class_ids = self.decoder(raw.detections, inputs.intrinsics)
        labels = raw.segmentation.argmax(1).to(torch.uint8)
        return Outputs(boxes, scores, class_ids, raw.depth_m, raw.depth_confidence, labels)


def seeded_model(config: ModelConfig, seed: int) -> PerceptionModel:
    """A model with reproducible random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PerceptionModel(config).eval()


def save_weights(model: PerceptionModel, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write all weights as safetensors, floating point ones in a dtype."""
    from safetensors.torch import save_file

    weights = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, path)
    path.chmod(0o644)  # as other files; the library makes it its owner's alone


def with_half_weights(model: PerceptionModel) -> PerceptionModel:
    """A copy in float32 whose weights float16 can hold: ``save_weights`` in it loses nothing."""
    rounded = copy.deepcopy(model)
    for tensor in rounded.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    return rounded


def load_model(config: ModelConfig, path: Path) -> PerceptionModel:
    """Build a model and load its weights, in evaluation mode.

    Raises:
        ValueError: naming tensors that are missing, unexpected or of another shape.
    """
    from safetensors.torch import load_file

    model, weights = PerceptionModel(config), load_file(path)
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:5])
        raise ValueError(f"{path} does not fit the model ({len(problems)} problems): {shown}")
    model.load_state_dict(weights)
    return model.eval()
