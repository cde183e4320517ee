"""Loss of depth that is chosen among hypotheses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss
from lemumo_core.metrics.depth import RATIO

LEAST = 1e-7
"""A probability below it costs as much as this one."""


class DepthChoice(NamedTuple):
    """The depths to choose from at a place in each pixel, and the choice.

    Attributes:
        log_depths: (B, K, H, W), hypotheses, log of metres.
        log_weights: (B, K, H, W), of the hypotheses; weights sum to 1.
        residual: (B, 1, H, W), log of metres, added to all of them.
        confidence: (B, H, W), in [0, 1].
    """

    log_depths: Tensor
    log_weights: Tensor
    residual: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class DepthSelectionLoss:
    """Expected absolute error of the hypotheses, each as probable as its weight.

    The weights that minimise it are those whose median is the best depth, and unlike that of a
    blend, the error of two surfaces on either side of the truth does not cancel. It is the mean of
    the error's logarithm, and of metres over sqrt(2 + depth), by which near and far pixels weigh
    about alike. Confidence is learnt as by ``DepthLoss``.

    Attributes:
        max_depth_m: deeper truth is no truth.
        metric, logarithmic: weights of the two errors.
    """

    max_depth_m: float = 80.0
    metric: float = 1.5
    logarithmic: float = 2.0

    def __call__(self, choice: DepthChoice, true_m: Tensor) -> Loss:
        """Return the loss of one batch, the same on every rank.

        Args:
            choice: of B views.
            true_m: (B, H, W), metres, NaN where unknown.

        Returns:
            Terms ``refinement`` and ``refinement_confidence``; the total is their sum.
        """
        valid = (true_m > 0) & (true_m <= self.max_depth_m)
        target = torch.where(valid, true_m, 1.0)[:, None]
        log_depths = choice.log_depths + choice.residual
        weights = choice.log_weights.exp()
        metric = (log_depths.exp() - target).abs() / (2.0 + target).sqrt()
        logarithmic = (log_depths - target.log()).abs()
        error = (weights * (self.metric * metric + self.logarithmic * logarithmic)).sum(1)
        with torch.no_grad():
            chosen_m = (weights * log_depths).sum(1).exp()
            close = (chosen_m < RATIO * target[:, 0]) & (chosen_m * RATIO > target[:, 0])
        confidence = choice.confidence
        bce = -torch.where(close, confidence, 1.0 - confidence).clamp(min=LEAST).log()
        sums = [torch.where(valid, term, 0.0).sum() for term in (error, bce)]
        *means, count = mean_over_ranks(torch.stack([*sums, valid.sum().to(error.dtype)]))
        error, bce = (mean / count.clamp(min=1.0 / world_size()) for mean in means)
        terms = {"refinement": error.detach(), "refinement_confidence": bce.detach()}
        return Loss(error + 0.1 * bce, terms)
