"""Lovász-softmax (arXiv 1705.08790): a surrogate of intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional

from lemumo_core.distributed import gather_rows, world_size
from lemumo_core.frame import UNLABELLED


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the classes that occur, of the points of all ranks.

    Args:
        logits: (N, C).
        labels: uint8 (N,), 255 = unlabelled; such rows do not count.
    """
    logits, labels = _of_all_ranks(logits, labels)
    known = (labels != UNLABELLED)[:, None]
    truth = functional.one_hot(torch.where(known[:, 0], labels.long(), 0), logits.shape[1])
    truth = truth.to(logits.dtype) * known
    # Errors of 0 stand last and add nothing: unlabelled rows drop out without an index.
    errors = (truth - logits.softmax(1)).abs() * known
    errors, order = errors.sort(dim=0, descending=True)
    found = truth.gather(0, order)
    total = truth.sum(0)
    union = total + (1 - found).cumsum(0)
    jaccard = 1 - (total - found.cumsum(0)) / union
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    present = total > 0
    losses = torch.where(present, (errors * steps).sum(0), 0.0)
    mean: Tensor = losses.sum() / present.sum().clamp(min=1)
    return mean


def _of_all_ranks(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Gather rows, of which ranks have different numbers; padding is unlabelled."""
    if world_size() == 1:
        return logits, labels
    longest = torch.tensor(len(labels), device=labels.device)
    distributed.all_reduce(longest, distributed.ReduceOp.MAX)
    more = int(longest) - len(labels)
    padded = functional.pad(labels, (0, more), value=UNLABELLED).to(logits.dtype)
    gathered = gather_rows(padded).to(torch.uint8)
    return gather_rows(functional.pad(logits, (0, 0, 0, more))), gathered
