"""Pieces that the heads share."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from lemumo_core.distributed import BatchNorm2d


class Features(NamedTuple):
    """Features that the heads read.

    Attributes:
        maps: (B, channels, h, w), at 1/16 (the paper's) or 1/4 (deploy) of the input's resolution.
        log_depths: float32 (B, hypotheses, h, w), log(1 + metres): what the depth of a cell may be
            by the returns in it and around it; the paper's heads have no hypotheses.
    """

    maps: Tensor
    log_depths: Tensor


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 3x3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs), nn.ReLU()
    )
