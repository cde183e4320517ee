"""CenterNet 2D detection (arXiv 1904.07850), for sets without 3D boxes such as FLIR ADAS."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from lemumo_core.model.heads.centernet import CenterNetHead


class RawDetections2d(NamedTuple):
    """What the head predicts in every cell, each (B, channels, h, w).

    heatmap: class logits (C). offset: of the box's centre in the cell, in cells (x, y). log_size:
    of (width, height) in cells.
    """

    heatmap: Tensor
    offset: Tensor
    log_size: Tensor


class CenterNet2dHead(nn.Module):
    """The trunk and heatmap of ``CenterNetHead`` of the same preset, with 2D boxes beside them."""

    def __init__(self, inputs: int, classes: int, preset: str):
        super().__init__()
        like = CenterNetHead(inputs, classes, preset)
        self.stride, self.trunk, self.heatmap = like.stride, like.trunk, like.heatmap
        self.offset, self.log_size = (nn.Conv2d(like.heatmap.in_channels, 2, 1) for _ in range(2))

    def forward(self, features: Tensor) -> RawDetections2d:
        """Features (B, inputs, h, w) to raw predictions."""
        x = self.trunk(features)
        return RawDetections2d(self.heatmap(x), self.offset(x), self.log_size(x))
