"""Dense depth in metres with a confidence, at 1/4 of the input resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.losses.depth import DepthLoss, PaperDepthLoss
from lemumo_core.model.heads.depth_selection import MAX_LOG_DEPTH, DepthSelection
from lemumo_core.model.heads.layers import Features, conv
from lemumo_core.model.heads.neck import HYPOTHESES


class DepthHead(nn.Module):
    """Head of dense depth, selected among the neck's hypotheses, with confidence.

    Confidence is the learnt probability that the depth is within a factor of 1.25 of the truth.

    Args:
        inputs: channels of the features.
    """

    loss = DepthLoss

    def __init__(self, inputs: int):
        super().__init__()
        self.layers = conv(inputs, inputs)
        self.chosen = DepthSelection(inputs, HYPOTHESES)
        self.confidence = nn.Conv2d(inputs, 1, 1)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Predict depth, metres, and confidence in [0, 1], both float32 (B, H/4, W/4)."""
        x = self.layers(features.maps)
        log_depth = self.chosen(x, features.log_depths)[:, 0].clamp(0.0, MAX_LOG_DEPTH)
        return log_depth.exp() - 1.0, self.confidence(x)[:, 0].float().sigmoid()


class PaperDepthHead(nn.Module):
    """The depth head of arXiv 2603.24327. It has no confidence and reports 1.

    Args:
        inputs: channels of the features.
    """

    loss = PaperDepthLoss

    def __init__(self, inputs: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, 256, 1), nn.PixelShuffle(4)),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 1, 1), nn.ReLU()),
        )

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Predict depth, metres, and confidence, both float32 (B, H/4, W/4)."""
        depth_m = self.layers(features.maps)[:, 0].float()
        return depth_m, torch.ones_like(depth_m)
