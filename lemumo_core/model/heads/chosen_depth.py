"""Depths of each cell, chosen among what LiDAR returns around it suggest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

START = 5.0
"""Bias of the last suggestion: it begins with most of the weight."""
STEEP = 10.0
"""Scale of what is learnt for near or for far suggestions; of two surfaces the logs of the depths
differ by some tenths."""
START_BEHIND_M = 1.0
START_LOG_SPREAD = 1.0
"""2.7 m."""
MAX_LOG_DEPTH = 6.0
MAX_LOG_SPREAD = 4.0
"""Spreads lie within 2 cm and 55 m."""


class ChosenDepth(nn.Module):
    """Weights of the suggestions, and a difference from their weighted mean.

    At an edge the mean of two surfaces lies on neither; weights can take one of them. A weight
    depends on where a suggestion comes from and on how near it is: its logit is what the features
    say of its place, plus what they say of nearness times its distance from the last suggestion.

    Args:
        inputs: channels of the features.
        suggestions: how many there are.
    """

    def __init__(self, inputs: int, suggestions: int):
        super().__init__()
        self.layer = nn.Conv2d(inputs, suggestions + 2, 1)
        start = torch.zeros(suggestions + 2)
        start[suggestions - 1] = START
        self.layer.bias = nn.Parameter(start)

    def forward(self, features: Tensor, log_depths: Tensor) -> Tensor:
        """Log depth, float32 (B, 1, h, w).

        Args:
            features: (B, inputs, h, w).
            log_depths: float32 (B, suggestions, h, w), log(1 + metres).
        """
        said = self.layer(features).float()
        places, farness, difference = said.split([said.shape[1] - 2, 1, 1], dim=1)
        logits = places + STEEP * farness * (log_depths - log_depths[:, -1:])
        return (logits.softmax(1) * log_depths).sum(1, keepdim=True) + difference


class ObjectDepth(nn.Module):
    """How far an object's centre is, and how sure that is.

    LiDAR sees an object's surface; its centre lies some metres behind. What is behind is told in
    metres, for in a logarithm the same two metres are .2 when near and .04 when far.

    Args:
        inputs: channels of the features.
        suggestions: as in ``ChosenDepth``.
    """

    def __init__(self, inputs: int, suggestions: int):
        super().__init__()
        self.surface = ChosenDepth(inputs, suggestions)
        self.centre = nn.Conv2d(inputs, 2, 1)
        self.centre.bias = nn.Parameter(torch.tensor([START_BEHIND_M, START_LOG_SPREAD]))

    def forward(self, features: Tensor, log_depths: Tensor) -> tuple[Tensor, Tensor]:
        """Log depth, and the log of its expected error in metres, float32 (B, 1, h, w) each.

        Args:
            features, log_depths: as in ``ChosenDepth``.
        """
        surface_m = self.surface(features, log_depths).clamp(0.0, MAX_LOG_DEPTH).exp() - 1.0
        behind_m, log_spread = self.centre(features).float().split(1, dim=1)
        depth_m = (surface_m + behind_m).clamp(min=0.0)
        return (1.0 + depth_m).log(), log_spread.clamp(-MAX_LOG_SPREAD, MAX_LOG_SPREAD)
