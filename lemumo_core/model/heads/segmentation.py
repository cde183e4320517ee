"""Semantic segmentation logits at 1/4 of the input resolution."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.model.heads.layers import conv


class SegmentationHead(nn.Module):
    """``probe``: the paper's linear map and sub-pixel shuffle. ``deploy``: a small decoder."""

    def __init__(self, inputs: int, classes: int, preset: str):
        super().__init__()
        if preset == "probe":
            self.layers = nn.Sequential(nn.Conv2d(inputs, 16 * classes, 1), nn.PixelShuffle(4))
        else:
            self.layers = nn.Sequential(conv(inputs, inputs), nn.Conv2d(inputs, classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inputs, h, w), tokens at 1/16 or those of a ``Neck``, to logits
        (B, classes, H/4, W/4)."""
        return self.layers(features)
