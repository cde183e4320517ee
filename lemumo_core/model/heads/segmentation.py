"""Semantic segmentation logits at 1/4 of the input resolution."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.model.heads.layers import DECODER_WIDTH, Upsampler


class SegmentationHead(nn.Module):
    """``probe``: the paper's linear map and sub-pixel shuffle. ``deploy``: a small decoder."""

    def __init__(self, dim: int, classes: int, preset: str):
        super().__init__()
        if preset == "probe":
            self.layers = nn.Sequential(nn.Conv2d(dim, 16 * classes, 1), nn.PixelShuffle(4))
        else:
            self.layers = nn.Sequential(Upsampler(dim), nn.Conv2d(DECODER_WIDTH, classes, 1))

    def forward(self, grid: Tensor) -> Tensor:
        """Token grid (B, D, H/16, W/16) to logits (B, classes, H/4, W/4)."""
        return self.layers(grid)
