"""Dense depth in metres with a confidence, at 1/4 of the input resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.heads.layers import conv

MAX_LOG_DEPTH = 6.0


class DepthHead(nn.Module):
    """``probe``: the paper's (section 5.4 of our spec); it has no confidence and reports 1.
    ``deploy``: the difference from the neck's log depth, and as confidence the learnt probability
    that the depth is within a factor of 1.25 of the truth (``objectives.depth``)."""

    def __init__(self, inputs: int, preset: str):
        super().__init__()
        if preset == "probe":
            self.layers: nn.Module = nn.Sequential(
                *(nn.Conv2d(inputs, 256, 1), nn.PixelShuffle(4)),
                *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(16, 1, 1), nn.ReLU()),
            )
        else:
            self.layers = nn.Sequential(conv(inputs, inputs), nn.Conv2d(inputs, 2, 1))

    def forward(self, maps: Tensor, log_depth: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            maps: (B, inputs, h, w), tokens at 1/16 or those of a ``Neck``.
            log_depth: the neck's, None for ``probe``.

        Returns:
            Depth, metres, and confidence in [0, 1], both float32 (B, H/4, W/4).
        """
        x = self.layers(maps).float()
        if log_depth is None:
            return x[:, 0], torch.ones_like(x[:, 0])
        said = (log_depth[:, 0] + x[:, 0]).clamp(0.0, MAX_LOG_DEPTH)
        return said.exp() - 1.0, x[:, 1].sigmoid()
