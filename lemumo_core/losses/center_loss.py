"""Loss of a heatmap of centres and of what is regressed at them (CenterNet, arXiv 1904.07850)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.centers import CenterTargets, RegressionTargets
from lemumo_core.losses.loss import Loss


class Regressed(NamedTuple):
    """Maps of a head that are regressed at objects, and how wrong they are.

    Attributes:
        maps: (B, channels, h, w) each.
        error: from the values of the maps (B, M, channels) each, and the target (B, M, channels),
            to errors (B, M).
    """

    maps: tuple[Tensor, ...]
    error: Callable[..., Tensor]


def l1_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the L1 distance (...) of vectors (..., channels)."""
    return (predicted - target).abs().sum(-1)


def angle_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return 1 - cos of the angle between vectors (..., 2), the target's of length 1: (...)."""
    return 1.0 - (functional.normalize(predicted, dim=-1, eps=1e-4) * target).sum(-1)


def center_loss(
    logits: Tensor,
    regressed: Mapping[str, Regressed],
    targets: CenterTargets,
    where: Callable[[CenterTargets], RegressionTargets],
) -> Loss:
    """Sum up the focal loss of the heatmap and the errors of what is regressed.

    The first is summed and divided by the number of objects to be found, the others are means by
    weight, over all ranks (of at least 1).

    Args:
        logits: (B, C, h, w) of the heatmap.
        regressed: by the names of ``targets.values``.
        targets: what should be predicted.
        where: ``targets_at_centers`` or ``targets_in_3x3``.

    Returns:
        Terms ``heatmap`` and by these names; the total is their sum. The same on every rank.

    Raises:
        ValueError: heatmaps of different shapes.
    """
    if logits.shape != targets.heatmap.shape:
        raise ValueError(
            f"the predicted heatmap is {tuple(logits.shape)}, the target "
            f"{tuple(targets.heatmap.shape)}"
        )
    (classes, height, width), pixels = logits.shape[1:], logits.shape[2] * logits.shape[3]
    index = torch.where(targets.valid, targets.class_ids * pixels + targets.cell, classes * pixels)
    positive = torch.zeros(len(logits), classes * pixels + 1, dtype=torch.bool, device=index.device)
    positive = positive.scatter_(1, index, True)[:, :-1].view(-1, classes, height, width)
    sums = {"heatmap": focal_loss(logits, targets.heatmap, positive, targets.labelled)}
    asked = where(targets)

    def at_cells(maps: Tensor) -> Tensor:
        cell = asked.cell[:, None].expand(-1, maps.shape[1], -1)
        return maps.flatten(2).gather(2, cell).transpose(1, 2).to(sums["heatmap"].dtype)

    for name, value in asked.values.items():
        maps, error_of = regressed[name]
        error = error_of(*map(at_cells, maps), value)
        sums[name] = (asked.weight * torch.where(asked.weight > 0, error, 0.0)).sum()
    counts = targets.valid.sum(), asked.weight.sum()
    together = mean_over_ranks(torch.stack([*sums.values(), *counts]))
    objects, weight = together[-2:].clamp(min=1.0 / world_size())
    terms = {
        name: total / (objects if name == "heatmap" else weight)
        for name, total in zip(sums, together, strict=False)
    }
    total = torch.stack(list(terms.values())).sum()
    return Loss(total, {name: value.detach() for name, value in terms.items()})


def focal_loss(logits: Tensor, heatmap: Tensor, positive: Tensor, labelled: Tensor) -> Tensor:
    """Return the sum of CenterNet's focal loss (arXiv 1904.07850, equation 1, alpha 2, beta 4).

    From logits, in at least float32, in terms of log sigmoid: finite for any of them.

    Args:
        logits: (B, C, h, w).
        heatmap: (B, C, h, w), Gaussians.
        positive: bool (B, C, h, w), where an object is to be found; elsewhere (1 - heatmap)^4
            weighs what is predicted.
        labelled: bool (B,), images that take part.
    """
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    found = functional.logsigmoid(x) * torch.sigmoid(-x).square()
    false = functional.logsigmoid(-x) * torch.sigmoid(x).square() * (1.0 - heatmap).pow(4)
    loss = -torch.where(positive, found, false)
    return torch.where(labelled[:, None, None, None], loss, 0.0).sum()
