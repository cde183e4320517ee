"""Pieces that the heads share."""

from __future__ import annotations

from torch import nn

from lemumo_core.distributed import BatchNorm2d


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs), nn.ReLU()
    )
