"""Semantic segmentation logits at 1/4 of the input resolution."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.losses.segmentation import SegmentationLoss
from lemumo_core.model.heads.layers import conv


class SegmentationHead(nn.Module):
    """A small decoder on the features of a ``Neck``.

    Args:
        inputs: channels of the features.
        classes: number of classes.
    """

    loss = SegmentationLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(conv(inputs, inputs), nn.Conv2d(inputs, classes, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Predict logits (B, classes, H/4, W/4) from maps (B, inputs, H/4, W/4)."""
        logits: Tensor = self.layers(maps)
        return logits


class PaperSegmentationHead(nn.Module):
    """The linear map and sub-pixel shuffle of arXiv 2603.24327.

    Args:
        inputs: channels of the tokens.
        classes: number of classes.
    """

    loss = SegmentationLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(inputs, 16 * classes, 1), nn.PixelShuffle(4))

    def forward(self, maps: Tensor) -> Tensor:
        """Predict logits (B, classes, H/4, W/4) from maps of tokens (B, inputs, H/16, W/16)."""
        logits: Tensor = self.layers(maps)
        return logits
