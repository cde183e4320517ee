"""Losses that keep shared and specific features apart, and features near their codes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import mean_of_valid

LEAST = 1e-12


def orthogonality(shared: Tensor, specific: Tensor, per_row: bool = False) -> Tensor:
    """Return ||shared^T unit(specific)||_F / D^2 over the rows of all ranks.

    Args:
        shared: (N, D), unit rows.
        specific: (N, D), of any length.
        per_row: divide by the number of rows, so that the size of a scan does not matter; the
            reference does not.
    """
    product = mean_over_ranks(shared.T @ functional.normalize(specific, dim=1))
    product = product / _rows(shared).clamp(min=1e-6) if per_row else product * world_size()
    width: int = shared.shape[1]
    return product.square().sum().clamp(min=LEAST).sqrt() / width**2


def commitment(
    features: Tensor, codes: Tensor, other_codes: Tensor, valid: Tensor, beta: float = 0.25
) -> Tensor:
    """Pull features towards their own codes, and half as much towards their partners'.

    Args:
        features: (n, D).
        codes: (n, D), of these rows; no gradient reaches them.
        other_codes: (n, D), of the other modality's rows.
        valid: bool (n,), which rows are pairs.
        beta: weight.
    """
    own = (features - codes.detach()).square().mean(1)
    other = (features - other_codes.detach()).square().mean(1)
    return beta * mean_of_valid(2 * own + other, valid)


def gaussian_kl(features: Tensor) -> Tensor:
    """Return the mean over dimensions of KL(N(mean, variance) || N(0, 1)) of all ranks' rows.

    Args:
        features: (N, D).
    """
    rows = _rows(features).clamp(min=1e-6)
    mean = mean_over_ranks(features.sum(0)) / rows
    variance = mean_over_ranks((features - mean).square().sum(0)) / rows
    variance = variance.clamp(min=LEAST)
    return 0.5 * (mean.square() + variance - 1 - variance.log()).mean()


def _rows(x: Tensor) -> Tensor:
    return mean_over_ranks(torch.full((), float(len(x)), dtype=x.dtype, device=x.device))
