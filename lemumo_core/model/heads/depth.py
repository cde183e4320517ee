"""Dense depth in metres with a confidence, at 1/4 of the input resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.heads.layers import conv

START_DEPTH_LOG = 2.5
"""Bias of the deploy head: an untrained one says about 12 m everywhere."""


class DepthHead(nn.Module):
    """``probe``: the paper's (section 5.4 of our spec); it has no confidence and reports 1.
    ``deploy``: softplus of log depth, and as confidence the learnt probability that the depth is
    within a factor of 1.25 of the truth (``objectives.depth``)."""

    def __init__(self, inputs: int, preset: str):
        super().__init__()
        self.probe = preset == "probe"
        if self.probe:
            self.layers: nn.Module = nn.Sequential(
                *(nn.Conv2d(inputs, 256, 1), nn.PixelShuffle(4)),
                *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(16, 1, 1), nn.ReLU()),
            )
        else:
            last = nn.Conv2d(inputs, 2, 1)
            last.bias = nn.Parameter(torch.tensor([START_DEPTH_LOG, 0.0]))
            self.layers = nn.Sequential(conv(inputs, inputs), last)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, inputs, h, w), tokens at 1/16 or those of a ``Neck``, to depth, metres, and
        confidence in [0, 1], both float32 (B, H/4, W/4)."""
        x = self.layers(features).float()
        if self.probe:
            return x[:, 0], torch.ones_like(x[:, 0])
        return functional.softplus(x[:, 0]).clamp(max=6.0).exp() - 1.0, x[:, 1].sigmoid()
