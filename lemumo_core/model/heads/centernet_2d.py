"""CenterNet 2D detection (arXiv 1904.07850), for sets without 3D boxes such as FLIR ADAS."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.losses.centernet_2d import CenterNet2dLoss, PaperCenterNet2dLoss, RawDetections2d
from lemumo_core.model.heads.centernet import (
    PAPER_STRIDE,
    PAPER_WIDTH,
    STRIDE,
    heatmap_layer,
    paper_trunk,
)
from lemumo_core.model.heads.layers import Features, conv
from lemumo_core.model.heads.peaks import PeakDecoder

MAX_LOG_CELLS = 6.0


class CenterNet2dDecoder(PeakDecoder):
    """Raw predictions to boxes in pixels."""

    def forward(self, raw: RawDetections2d, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the best K peaks; ``intrinsics`` are not looked at.

        Returns:
            boxes float32 (B, K, 4) x_min, y_min, x_max, y_max, pixels of the network's view,
            scores float32 (B, K), class ids int64 (B, K). Best score first.
        """
        scores, class_ids, u, v, log_size = self.peaks(raw.heatmap, raw.regressed)
        center = torch.stack([u, v], dim=-1)
        half = log_size.transpose(1, 2).clamp(-MAX_LOG_CELLS, MAX_LOG_CELLS).exp()
        half = half * (self.stride / 2)
        return torch.cat([center - half, center + half], dim=-1), scores, class_ids


class _Head2d(nn.Module):
    """A trunk to ``width`` channels, and what a box needs on it."""

    decoder = CenterNet2dDecoder

    def __init__(self, trunk: nn.Module, width: int, classes: int):
        super().__init__()
        self.trunk = trunk
        self.heatmap = heatmap_layer(width, classes)
        self.offset, self.log_size = (nn.Conv2d(width, 2, 1) for _ in range(2))

    def forward(self, features: Features, depth_m: Tensor) -> RawDetections2d:
        """Predict from features; ``depth_m`` is not looked at."""
        x = self.trunk(features.maps)
        return RawDetections2d(self.heatmap(x), self.offset(x), self.log_size(x))


class CenterNet2dHead(_Head2d):
    """The deploy family's, on the features of a ``Neck`` at 1/4 of the input's resolution.

    Args:
        inputs: channels of the features.
        classes: number of classes.
    """

    stride, loss = STRIDE, CenterNet2dLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__(conv(inputs, inputs), inputs, classes)


class PaperCenterNet2dHead(_Head2d):
    """The paper family's, on the trunk of ``PaperCenterNetHead``.

    Args:
        inputs: channels of the tokens.
        classes: number of classes.
    """

    stride, loss = PAPER_STRIDE, PaperCenterNet2dLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__(paper_trunk(inputs), PAPER_WIDTH, classes)
