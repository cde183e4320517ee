"""CenterNet 3D detection (arXiv 1904.07850; heads and decoding as in arXiv 2603.24327)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lemumo_core.distributed import BatchNorm2d
from lemumo_core.losses.centernet import CenterNetLoss, PaperCenterNetLoss, RawDetections
from lemumo_core.model.heads.depth_selection import MAX_LOG_DEPTH, ObjectDepth
from lemumo_core.model.heads.layers import Features, conv
from lemumo_core.model.heads.neck import HYPOTHESES
from lemumo_core.model.heads.peaks import PeakDecoder

PRIOR_LOGIT = -2.19
"""Heatmap bias: every cell starts at a score of 0.1."""
START = (0.5, 0.5), (1.0, 0.5, 0.5), (0.0, 0.0)
"""Biases of what is regressed: in the middle of its cell, 2.7 x 1.6 x 1.6 m, no yaw yet."""
START_LOG_DEPTH = 3.0
"""Bias of depth in the paper's head: 19 m away."""
MAX_LOG_SIZE = 4.0
PAPER_WIDTH, PAPER_STRIDE = 256, 8
STRIDE = 4


class CenterNetDecoder(PeakDecoder):
    """Raw predictions to metric boxes."""

    def forward(self, raw: RawDetections, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the best K peaks and place them in space.

        Args:
            raw: the head's output.
            intrinsics: float32 (B, 3, 3) of the network's view.

        Returns:
            boxes float32 (B, K, 7) x, y, z, length, width, height, yaw in the camera optical
            frame (``lemumo_core.geometry.boxes``), scores float32 (B, K), class ids int64
            (B, K). Best score first. A score is the probability that an object is there times,
            where the head predicts it, that of its depth.
        """
        confidence = raw.depth_confidence
        scores, class_ids, u, v, values = self.peaks(raw.heatmap, raw.regressed, confidence)
        *log_size, log_depth, sin, cos = values.unbind(1)
        size = torch.stack(log_size, dim=-1).clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp()
        z = log_depth.clamp(0.0, MAX_LOG_DEPTH).exp() - 1.0
        fx, fy = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
        cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
        center = torch.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], dim=-1)
        yaw = angle(sin, cos).unsqueeze(-1)
        return torch.cat([center, size, yaw], dim=-1), scores, class_ids


class CenterNetHead(nn.Module):
    """CenterNet head of the deploy family, on features of a ``Neck`` at 1/4 of the input.

    An object's depth is a distribution over the depth hypotheses (``ObjectDepth``).

    Args:
        inputs: channels of the features.
        classes: number of classes.
    """

    stride = STRIDE
    decoder, loss = CenterNetDecoder, CenterNetLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.trunk = conv(inputs, inputs)
        self.heatmap = heatmap_layer(inputs, classes)
        self.regress = biased_layers(inputs, START)
        # The depth head's result is one more hypothesis.
        self.log_depth = ObjectDepth(inputs, HYPOTHESES + 1)

    def forward(self, features: Features, depth_m: Tensor) -> RawDetections:
        """Predict.

        Args:
            features: of a ``Neck``.
            depth_m: (B, h, w), the depth head's.
        """
        x = self.trunk(features.maps)
        offset, log_size, rotation = (head(x) for head in self.regress)
        # Objects learn from depth, not depth from objects.
        own = (1.0 + depth_m.detach()).log().unsqueeze(1)
        depth = self.log_depth(x, torch.cat([features.log_depths, own], dim=1))
        object_m, confidence = depth.mode()
        log_depth = (1.0 + object_m).log()
        heatmap = self.heatmap(x)
        return RawDetections(heatmap, offset, log_size, log_depth, rotation, confidence, depth)


class PaperCenterNetHead(nn.Module):
    """The paper's, from tokens at 1/16 of the input's resolution to 1/8.

    Args:
        inputs: channels of the tokens.
        classes: number of classes.
    """

    stride = PAPER_STRIDE
    decoder, loss = CenterNetDecoder, PaperCenterNetLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.trunk = paper_trunk(inputs)
        self.heatmap = heatmap_layer(PAPER_WIDTH, classes)
        self.regress = biased_layers(PAPER_WIDTH, START)
        (self.log_depth,) = biased_layers(PAPER_WIDTH, [[START_LOG_DEPTH]])

    def forward(self, features: Features, depth_m: Tensor) -> RawDetections:
        """Predict from tokens; ``depth_m`` is not looked at."""
        x = self.trunk(features.maps)
        offset, log_size, rotation = (head(x) for head in self.regress)
        return RawDetections(self.heatmap(x), offset, log_size, self.log_depth(x), rotation)


def paper_trunk(inputs: int) -> nn.Sequential:
    """Build the paper's layers from tokens at 1/16 to ``PAPER_WIDTH`` channels at 1/8."""
    width = PAPER_WIDTH
    return nn.Sequential(
        *(nn.Conv2d(inputs, width, 3, padding=1), BatchNorm2d(width), nn.ReLU()),
        *(nn.ConvTranspose2d(width, width, 4, 2, 1), BatchNorm2d(width), nn.ReLU()),
    )


def heatmap_layer(inputs: int, classes: int) -> nn.Conv2d:
    """Build the layer of class logits."""
    layer = nn.Conv2d(inputs, classes, 1)
    layer.bias = nn.Parameter(torch.full((classes,), PRIOR_LOGIT))
    return layer


def biased_layers(inputs: int, biases: Sequence[Sequence[float]]) -> nn.ModuleList:
    """Build a 1x1 convolution for each of some biases, which it begins with."""
    layers = nn.ModuleList(nn.Conv2d(inputs, len(bias), 1) for bias in biases)
    for layer, bias in zip(layers, biases, strict=True):
        layer.bias = nn.Parameter(torch.tensor(bias))
    return layers


def angle(sin: Tensor, cos: Tensor) -> Tensor:
    """Compute atan2 with operators of ONNX opset 18, by the half-angle formula.

    tan(a / 2) = sin / (r + cos), or (r - cos) / sin where cos is negative, which loses no digits.
    """
    r = (sin * sin + cos * cos).sqrt().clamp(min=1e-12)
    sign = torch.where(sin < 0.0, -1.0, 1.0)
    ahead = sin / (r + cos).clamp(min=1e-12)
    behind = sign * (r - cos) / sin.abs().clamp(min=1e-12)
    return 2.0 * torch.where(cos >= 0.0, ahead, behind).atan()
