"""Semantic segmentation logits at 1/4 of the input resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lemumo_core.distributed import BatchNorm2d
from lemumo_core.losses.segmentation import SegmentationLoss
from lemumo_core.model.conv_towers import stages_of
from lemumo_core.model.heads.layers import conv

FCN_DROPOUT = 0.1
TOWERS = 2


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


class FcnSegmentationHead(nn.Module):
    """Fully convolutional heads on stages 2 to 4 of two ResNets, summed: DeCUR's protocol.

    The maps of both towers are concatenated stage by stage. Each stage has a 3 x 3 convolution to
    an eighth of its channels, batch norm, ReLU, dropout and a linear map to logits, which are
    enlarged bilinearly.

    Args:
        inputs: channels of the tokens, which hold the stages (``conv_towers.ConvTower``).
        classes: number of classes.
    """

    loss = SegmentationLoss

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        # A tower's tokens are 4 x stage 2, stage 3 and stage 4, each of which doubles the channels.
        second = inputs // (TOWERS * 10)
        self.dims = second, 2 * second, 4 * second
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width // 8, 3, padding=1, bias=False),
                BatchNorm2d(width // 8),
                nn.ReLU(),
                nn.Dropout(FCN_DROPOUT),
                nn.Conv2d(width // 8, classes, 1),
            )
            for width in (TOWERS * dim for dim in self.dims)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Predict logits (B, classes, H/4, W/4) from maps of tokens (B, inputs, H/16, W/16)."""
        size = 4 * maps.shape[2], 4 * maps.shape[3]
        towers = [stages_of(one, self.dims) for one in maps.chunk(TOWERS, dim=1)]
        logits = [
            interpolate(head(torch.cat(both, dim=1)), size, mode="bilinear", align_corners=False)
            for head, *both in zip(self.stages, *towers, strict=True)
        ]
        return torch.stack(logits).sum(0)
