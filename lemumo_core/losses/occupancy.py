"""Loss of predicted occupancy: whether a place on a ray is behind its return or before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.losses.loss import mean_of_valid


def occupancy_loss(logits: Tensor, occupied: Tensor) -> Tensor:
    """Return binary cross entropy, the mean over the pairs of all ranks.

    Args:
        logits: (P,), of pairs of a query and a neighbour.
        occupied: bool (P,).
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits, occupied.to(logits.dtype), reduction="none"
    )
    return mean_of_valid(losses, torch.ones_like(occupied))


def intensity_loss(predicted: Tensor, intensity: Tensor, known: Tensor) -> Tensor:
    """Return the mean absolute error of intensities.

    Args:
        predicted: (P,).
        intensity: (P,), 0 to 1, of the returns that the queries were drawn from.
        known: bool (P,), False in free space, which has none.
    """
    return mean_of_valid((predicted - intensity).abs(), known)
