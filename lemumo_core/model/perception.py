"""Encoder, three heads and decoding: the whole network that is trained and exported."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.view_labels import ViewLabels
from lemumo_core.files import write_whole
from lemumo_core.losses.centernet import REGRESSED, RawDetections
from lemumo_core.losses.centernet_2d import RawDetections2d
from lemumo_core.losses.depth_selection import DepthChoice, DepthSelectionLoss
from lemumo_core.losses.loss import Loss
from lemumo_core.metrics.objects import ObjectFilter
from lemumo_core.model.companion_vote import companion_alone, voted
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.heads.depth_refinement import DepthRefinement, RefinedDepth
from lemumo_core.model.heads.family import FAMILIES
from lemumo_core.model.reduced_view import reduced
from lemumo_core.model.variants import build_encoder
from lemumo_core.model.weight_file import read_weight_file
from lemumo_core.model.weight_names import current_names
from lemumo_core.preprocess import Inputs

RAW_NAMES = {f"raw_{name}" for name in ("heatmap", *REGRESSED, "segmentation")}
"""Names of the tensors of an exported graph that are heads before decoding; 2D ones lack some."""


class RawPerception(NamedTuple):
    """Raw predictions of the heads, before decoding; the losses act on them.

    Attributes:
        detections: of every cell.
        depth_m: float32 (B, H/4, W/4), metres; H and W are of what the encoder sees.
        depth_confidence: float32 (B, H/4, W/4), in [0, 1].
        segmentation: class logits (B, C, H/4, W/4).
        refined: depth at the view's resolution, of a model that refines it.
    """

    detections: RawDetections | RawDetections2d
    depth_m: Tensor
    depth_confidence: Tensor
    segmentation: Tensor
    refined: RefinedDepth | None = None

    def named(self) -> dict[str, Tensor]:
        """Return heatmap, regressed maps and logits by their names in an exported graph."""
        maps = {"heatmap": self.detections.heatmap, **self.detections.regressed}
        named = {**maps, "segmentation": self.segmentation}
        return {f"raw_{name}": value for name, value in named.items()}


class Outputs(NamedTuple):
    """The network's outputs, in the order and with the names of the exported graph.

    boxes float32 (B, K, 7), or (B, K, 4) of a model that detects in 2D, scores float32 (B, K),
    class_ids int64 (B, K), depth and depth_confidence float32 (B, H/4, W/4), labels uint8
    (B, H/4, W/4); the last three (B, H, W) of a model that refines depth.
    """

    boxes: Tensor
    scores: Tensor
    class_ids: Tensor
    depth: Tensor
    depth_confidence: Tensor
    labels: Tensor


class PerceptionModel(nn.Module):
    """The perception network of a configuration: an encoder and a family of heads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        family, classes = FAMILIES[config.head_family], len(config.detection_classes)
        self.encoder = build_encoder(config.seen)
        self.neck = family.neck(config.seen, self.encoder.modalities)
        self.centernet = family.detection[config.detection](self.neck.width, classes)
        self.depth = family.depth(self.neck.width)
        self.segmentation = family.segmentation(self.neck.width, len(config.segmentation_classes))
        self.refine = None
        if config.refine_depth:
            self.refine = DepthRefinement(config.input_spec.depth_max_m)
        stride = config.encoder_reduction * self.centernet.stride
        self.decoder = self.centernet.decoder(classes, config.height, config.width, stride)

    def forward(self, inputs: Inputs) -> Outputs:
        """Perceive the inputs of B views."""
        return self.decode(self.predicted(inputs), inputs.intrinsics)

    def decode(self, raw: RawPerception, intrinsics: Tensor) -> Outputs:
        """Return the outputs for predictions of B views with intrinsics float32 (B, 3, 3)."""
        boxes, scores, class_ids = self.decoder(raw.detections, intrinsics)
        depth_m, confidence, logits = raw.depth_m, raw.depth_confidence, raw.segmentation
        if raw.refined is not None:
            depth_m, confidence = raw.refined.depth_m, raw.refined.confidence
            logits = functional.interpolate(
                logits, depth_m.shape[1:], mode="bilinear", align_corners=False
            )
        labels = logits.argmax(1).to(torch.uint8)
        return Outputs(boxes, scores, class_ids, depth_m, confidence, labels)

    def predicted(self, inputs: Inputs) -> RawPerception:
        """Return the predictions that are decoded: ``raw``, with the companion's vote in boxes."""
        raw = self.raw(inputs)
        if not self.config.companion_vote:
            return raw
        alone = companion_alone(self.reduced(inputs))
        features = self.neck(self.encoder(alone).tokens, alone)
        depth_m, _ = self.depth(features)
        own = self.centernet(features, depth_m)
        assert isinstance(raw.detections, RawDetections) and isinstance(own, RawDetections)
        share = self.config.companion_vote
        return raw._replace(detections=voted(raw.detections, own, share, inputs.present))

    def raw(self, inputs: Inputs) -> RawPerception:
        """Return the predictions before decoding, those of training."""
        seen = self.reduced(inputs)
        return self.heads(self.encoder(seen).tokens, seen, inputs)

    def reduced(self, inputs: Inputs) -> Inputs:
        """Return the inputs at the size that the encoder sees."""
        return reduced(inputs, self.config.encoder_reduction)

    def heads(self, tokens: Tensor, seen: Inputs, inputs: Inputs) -> RawPerception:
        """Return the heads' predictions.

        Args:
            tokens: (B, N, D'), of the encoder.
            seen: what it saw, see ``reduced``.
            inputs: at the size of the view, which refined depth has.
        """
        features = self.neck(tokens, seen)
        depth_m, confidence = self.depth(features)
        detections = self.centernet(features, depth_m)
        segmentation = self.segmentation(features.maps)
        refined = None if self.refine is None else self.refine(inputs, depth_m, confidence)
        return RawPerception(detections, depth_m, confidence, segmentation, refined)

    def losses(
        self, raw: RawPerception, labels: ViewLabels, intrinsics: Tensor, balance: float = 0.5
    ) -> dict[str, Loss]:
        """Return the losses of the tasks, ``detection``, ``depth`` and ``segmentation``.

        A model that refines depth has those of ``refinement_losses`` too.

        Args:
            raw: predictions for B views.
            labels: of these views.
            intrinsics: float32 (B, 3, 3) of these views.
            balance: of the classes of segmentation (``SegmentationLoss``).
        """
        max_depth_m = self.config.input_spec.depth_max_m
        detection = self.centernet.loss(
            self.centernet.stride, ObjectFilter(max_depth_m=max_depth_m)
        )
        depth, segmentation = self.depth.loss(max_depth_m), self.segmentation.loss(balance)
        losses = {
            "detection": detection(raw.detections, labels.boxes, intrinsics),
            "depth": depth(raw.depth_m, raw.depth_confidence, labels.depth_m),
            "segmentation": segmentation(raw.segmentation, labels.label_map),
        }
        if raw.refined is not None:
            losses |= self.refinement_losses(raw.refined, labels)
        return losses

    def refinement_losses(self, refined: RefinedDepth, labels: ViewLabels) -> dict[str, Loss]:
        """Return the losses of refined depth, ``refinement`` and ``masked_returns``.

        The former is at the centres of pixels, the latter where masked returns lie.

        Args:
            refined: depth of B views.
            labels: of these views.
        """
        loss = DepthSelectionLoss(self.config.input_spec.depth_max_m)
        places = torch.zeros_like(labels.depth_m[:, None])
        truths = {"refinement": (labels.depth_m, places, places)}
        if labels.masked is not None:
            masked_m, u, v = labels.masked.split(1, dim=1)
            truths["masked_returns"] = masked_m[:, 0], u, v
        weights, residual, confidence = refined.log_weights, refined.residual, refined.confidence
        losses = {}
        for name, (true_m, u, v) in truths.items():
            choice = DepthChoice(refined.log_depths(u, v), weights, residual, confidence)
            losses[name] = loss(choice, true_m)
        return losses


def seeded_model(config: ModelConfig, seed: int) -> PerceptionModel:
    """A model with reproducible random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PerceptionModel(config).eval()


def save_weights(model: PerceptionModel, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write all weights as safetensors, floating point ones in a dtype.

    Raises:
        OSError: as ``write_whole``; what was there then stays.
    """
    from safetensors.torch import save

    weights = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_whole(path, save(weights))


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
        Fault, FileNotFoundError: as ``read_weight_file``.
    """
    model, weights = PerceptionModel(config), current_names(read_weight_file(path))
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
