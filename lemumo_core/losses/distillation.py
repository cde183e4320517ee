"""How far boxes and labels of a model lie from those of another: knowledge distillation.

Soft targets as in arXiv 1503.02531; against forgetting as in arXiv 1606.09282.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks


def boxes_apart(
    heatmap: Tensor,
    regressed: Mapping[str, Tensor],
    taught_heatmap: Tensor,
    taught: Mapping[str, Tensor],
    rows: Tensor,
) -> Tensor:
    """Return how far detections are from a teacher's: 0 where they are the same.

    Scores differ by their relative entropy, values at an object by their absolute difference; both
    are sums over cells, per object that the teacher sees (its scores, summed).

    Args:
        heatmap: class logits (B, C, h, w).
        regressed: values by name, (B, channels, h, w).
        taught_heatmap: the teacher's logits.
        taught: the teacher's values.
        rows: bool (B,), which of the B count.
    """
    counts = rows[:, None, None, None]
    scores = taught_heatmap.float().sigmoid()
    apart, own = (
        functional.binary_cross_entropy_with_logits(logits.float(), scores, reduction="none")
        for logits in (heatmap, taught_heatmap)
    )
    entropy = (counts * (apart - own)).sum()
    weight = counts * scores.amax(1, keepdim=True)
    values = sum(
        (weight * (values.float() - taught[name].float()).abs()).sum()
        for name, values in regressed.items()
    )
    total, objects = mean_over_ranks(torch.stack([entropy + values, weight.sum()]))
    mean: Tensor = total / objects.detach().clamp(min=1.0)
    return mean


def labels_apart(logits: Tensor, taught: Tensor, rows: Tensor) -> Tensor:
    """Return the relative entropy of labels to a teacher's, the mean over cells that count.

    Args:
        logits: of classes, (B, C, h, w).
        taught: the teacher's logits.
        rows: bool (B,), which of the B count.
    """
    log_shares, log_taught = (x.float().log_softmax(1) for x in (logits, taught))
    apart = functional.kl_div(log_shares, log_taught, reduction="none", log_target=True).sum(1)
    total, views = mean_over_ranks(torch.stack([(rows * apart.mean((1, 2))).sum(), rows.sum()]))
    mean: Tensor = total / views.clamp(min=1.0)
    return mean
