"""CenterNet 2D detection (arXiv 1904.07850), for sets without 3D boxes such as FLIR ADAS."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.model.heads.centernet import CenterNetHead
from lemumo_core.model.heads.peaks import PeakDecoder

MAX_LOG_CELLS = 6.0


class RawDetections2d(NamedTuple):
    """What the head predicts in every cell, each (B, channels, h, w).

    heatmap: class logits (C). offset: of the box's centre in the cell, in cells (x, y). log_size:
    of (width, height) in cells.
    """

    heatmap: Tensor
    offset: Tensor
    log_size: Tensor

    @property
    def regressed(self) -> list[Tensor]:
        """What a decoder reads at the peaks."""
        return [self.offset, self.log_size]


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


class CenterNet2dDecoder(PeakDecoder):
    """Raw predictions to boxes in pixels."""

    def forward(self, raw: RawDetections2d) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the best K peaks.

        Returns:
            boxes float32 (B, K, 4) x_min, y_min, x_max, y_max, pixels of the network's view,
            scores float32 (B, K), class ids int64 (B, K). Best score first.
        """
        scores, class_ids, u, v, log_size = self.peaks(raw.heatmap, raw.regressed)
        center = torch.stack([u, v], dim=-1)
        half = log_size.transpose(1, 2).clamp(-MAX_LOG_CELLS, MAX_LOG_CELLS).exp()
        half = half * (self.stride / 2)
        return torch.cat([center - half, center + half], dim=-1), scores, class_ids
