"""Pieces that the heads share."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.train.distributed import BatchNorm2d

DECODER_WIDTH = 64


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs), nn.ReLU()
    )


class Upsampler(nn.Module):
    """Tokens at 1/16 to features at 1/4: two stages of sub-pixel doubling, refined each time."""

    def __init__(self, dim: int, width: int = DECODER_WIDTH):
        super().__init__()
        self.enter = nn.Conv2d(dim, 4 * width, 1)
        self.refine8 = conv(width, width)
        self.widen = nn.Conv2d(width, 4 * width, 1)
        self.refine4 = conv(width, width)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to (B, width, 4h, 4w)."""
        x = self.refine8(self.shuffle(self.enter(x)))
        return self.refine4(self.shuffle(self.widen(x)))
