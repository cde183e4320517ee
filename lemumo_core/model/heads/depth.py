"""Dense depth in metres with a confidence, at 1/4 of the input resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.heads.depth_selection import MAX_LOG_DEPTH, ChosenDepth
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.heads.neck import SUGGESTIONS


class DepthHead(nn.Module):
    """``probe``: the paper's (section 5.4 of our spec); it has no confidence and reports 1.
    ``deploy``: chosen among the neck's log depths (``ChosenDepth``), and as confidence the learnt
    probability that it is within a factor of 1.25 of the truth (``objectives.depth``)."""

    def __init__(self, inputs: int, preset: str):
        super().__init__()
        if preset == "probe":
            self.layers: nn.Module = nn.Sequential(
                *(nn.Conv2d(inputs, 256, 1), nn.PixelShuffle(4)),
                *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(16, 1, 1), nn.ReLU()),
            )
        else:
            self.layers = conv(inputs, inputs)
            self.chosen = ChosenDepth(inputs, SUGGESTIONS)
            self.confidence = nn.Conv2d(inputs, 1, 1)

    def forward(self, maps: Tensor, log_depths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            maps: (B, inputs, h, w), tokens at 1/16 or those of a ``Neck``.
            log_depths: the neck's, None for ``probe``.

        Returns:
            Depth, metres, and confidence in [0, 1], both float32 (B, H/4, W/4).
        """
        x = self.layers(maps)
        if log_depths is None:
            depth_m = x[:, 0].float()
            return depth_m, torch.ones_like(depth_m)
        log_depth = self.chosen(x, log_depths)[:, 0].clamp(0.0, MAX_LOG_DEPTH)
        return log_depth.exp() - 1.0, self.confidence(x)[:, 0].float().sigmoid()
