"""VICReg (arXiv 2105.04906), with many views in place of two branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss, checked, invariance

EPSILON = 1e-4
"""Added to the variance under the root, as in the VICReg paper: the slope of a root at 0 is
infinite."""


@dataclass(frozen=True)
class VicReg:
    """Invariance to the mean of all views, variance hinge and covariance of each view.

    Variance: mean over dimensions of max(0, 1 - sqrt(var + eps)). Covariance: sum of the squared
    entries off the diagonal of the covariance matrix, divided by d. Both unbiased over the batch
    of all ranks, and averaged over views.

    Attributes:
        invariance, variance, covariance: weights of the terms.
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0

    def __call__(self, projections: Tensor, step: int | Tensor) -> Loss:
        """Loss of one step, the same on every rank.

        Args:
            projections: (V, B, d) of this rank.
            step: unused, nothing here is random.

        Returns:
            Terms ``invariance``, ``variance`` and ``covariance``.

        Raises:
            ValueError: for projections of the wrong shape, or fewer than two samples.
        """
        x = checked(projections)
        samples = projections.shape[1] * world_size()
        if samples < 2:
            raise ValueError("VICReg needs a batch of at least 2 samples, got 1")
        with torch.autocast(projections.device.type, enabled=False):
            centered = x - mean_over_ranks(x.mean(1, keepdim=True))
            products = centered.transpose(1, 2) @ centered / x.shape[1]
            covariance = mean_over_ranks(products) * samples / (samples - 1)
            diagonal = torch.eye(x.shape[2], dtype=x.dtype, device=x.device)
            variance = (covariance * diagonal).sum(2)
            off_diagonal = covariance * (1 - diagonal)
            terms = {
                "invariance": mean_over_ranks(invariance(x, x.mean(0))),
                "variance": functional.relu(1.0 - (variance + EPSILON).sqrt()).mean(),
                "covariance": off_diagonal.square().sum((1, 2)).mean() / x.shape[-1],
            }
            total = (
                self.invariance * terms["invariance"]
                + self.variance * terms["variance"]
                + self.covariance * terms["covariance"]
            )
        return Loss(total, {name: value.detach() for name, value in terms.items()})
