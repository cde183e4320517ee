"""Depth of each cell, selected among hypotheses that LiDAR returns around it give."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.losses.depth_mixture import DepthMixture

START = 5.0
"""Bias of the last hypothesis: it begins with most of the weight."""
SLOPE = 10.0
"""Scale of the learnt slope over log depth; of two surfaces the logs of the depths differ by some
tenths."""
START_BEHIND_M = 1.0
START_LOG_SPREAD = 1.0
"""2.7 m."""
MAX_LOG_DEPTH = 6.0
MAX_LOG_SPREAD = 4.0
"""Spreads lie within 2 cm and 55 m."""


class DepthSelection(nn.Module):
    """Weights of depth hypotheses, and a residual of their weighted mean.

    At an edge the mean of two surfaces lies on neither; weights can select one of them. A weight
    depends on where a hypothesis comes from and on how near it is: its logit is a learnt one of its
    origin, plus a learnt slope times its log depth relative to the last hypothesis.

    Args:
        inputs: channels of the features.
        hypotheses: how many there are.
    """

    def __init__(self, inputs: int, hypotheses: int):
        super().__init__()
        self.layer = nn.Conv2d(inputs, hypotheses + 2, 1)
        start = torch.zeros(hypotheses + 2)
        start[hypotheses - 1] = START
        self.layer.bias = nn.Parameter(start)

    def forward(self, features: Tensor, log_depths: Tensor) -> Tensor:
        """Predict log depth.

        Args:
            features: (B, inputs, h, w).
            log_depths: float32 (B, hypotheses, h, w), log(1 + metres).

        Returns:
            float32 (B, 1, h, w), log(1 + metres).
        """
        logits, residual = self.logits(features, log_depths)
        return (logits.softmax(1) * log_depths).sum(1, keepdim=True) + residual

    def logits(self, features: Tensor, log_depths: Tensor) -> tuple[Tensor, Tensor]:
        """Predict logits of the weights (B, hypotheses, h, w), and the residual (B, 1, h, w).

        Arguments as of ``forward``.
        """
        maps = self.layer(features).float()
        logits, slope, residual = maps.split([maps.shape[1] - 2, 1, 1], dim=1)
        return logits + SLOPE * slope * (log_depths - log_depths[:, -1:]), residual


class ObjectDepth(nn.Module):
    """Depth of an object's centre.

    LiDAR sees an object's surface; its centre lies some metres behind. That distance is predicted
    in metres, for in a logarithm the same two metres are .2 when near and .04 when far. And a mean
    of hypotheses lies between the object and the wall behind it: here they stay apart.

    Args:
        inputs: channels of the features.
        hypotheses: as of ``DepthSelection``.
    """

    def __init__(self, inputs: int, hypotheses: int):
        super().__init__()
        self.surface = DepthSelection(inputs, hypotheses)
        self.center = nn.Conv2d(inputs, 2, 1)
        self.center.bias = nn.Parameter(torch.tensor([START_BEHIND_M, START_LOG_SPREAD]))

    def forward(self, features: Tensor, log_depths: Tensor) -> DepthMixture:
        """Predict a mixture with a component for each hypothesis.

        Arguments as of ``DepthSelection``.
        """
        logits, residual = self.surface.logits(features, log_depths)
        surfaces_m = (log_depths + residual).clamp(0.0, MAX_LOG_DEPTH).exp() - 1.0
        behind_m, log_spread = self.center(features).float().split(1, dim=1)
        return DepthMixture(
            (surfaces_m + behind_m).clamp(min=0.0),
            logits.log_softmax(1),
            log_spread.clamp(-MAX_LOG_SPREAD, MAX_LOG_SPREAD),
        )
