"""Types and functions that the objectives share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks


class Loss(NamedTuple):
    """A scalar to minimise, and its unweighted terms by name, detached, for the log."""

    total: Tensor
    terms: dict[str, Tensor]


def checked(projections: Tensor, global_views: int = 1) -> Tensor:
    """Projections (V, B, d) with at least the global views, in at least float32.

    Raises:
        ValueError: naming the shape.
    """
    shape = tuple(projections.shape)
    if len(shape) != 3 or shape[0] < global_views or 0 in shape:
        raise ValueError(
            f"projections have shape {shape}; expected (views, batch, dimensions) with the "
            f"{global_views} global views first"
        )
    return projections.to(torch.promote_types(projections.dtype, torch.float32))


def invariance(projections: Tensor, center: Tensor) -> Tensor:
    """Mean square distance of projections (V, B, d) from a centre (B, d), on this rank."""
    return (projections - center).square().mean()


def mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid rows of all ranks; 0, with zero gradients, without any.

    Args:
        values: (n,), finite.
        valid: bool (n,).
    """
    kept = torch.where(valid, values, 0.0).sum()
    total, count = mean_over_ranks(torch.stack([kept, valid.sum().to(kept.dtype)]))
    mean: Tensor = total / count.detach().clamp(min=1e-6)
    return mean
