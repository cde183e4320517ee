"""Self-distillation: a student matches a teacher's assignments to prototypes (DINO, iBOT)."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size

ITERATIONS = 3
"""How often Sinkhorn-Knopp normalises rows and columns, as in SwAV (arXiv 2006.09882) and DINOv2
(arXiv 2304.07193)."""


@torch.no_grad()
def sinkhorn_knopp(cosines: Tensor, temperature: float) -> Tensor:
    """Return soft assignments of rows to prototypes that use all prototypes alike.

    exp(cosine / temperature), of which in turn all columns and all rows are scaled to the same sum:
    DINOv2's place of DINO's centring. It needs no average over steps, so there is nothing to keep.

    Args:
        cosines: (n, K) of rows and prototypes; ranks may have numbers of rows of their own.
        temperature: of the teacher; below 1/80 the exponential leaves float32.

    Returns:
        float32 (n, K) whose rows sum to 1.
    """
    with torch.autocast(cosines.device.type, enabled=False):
        shares = (cosines.to(torch.promote_types(cosines.dtype, torch.float32)) / temperature).exp()
        for _ in range(ITERATIONS):
            shares = shares / (mean_over_ranks(shares.sum(0)) * world_size())
            shares = shares / shares.sum(1, keepdim=True)
        return shares


def view_loss(log_p: Tensor, targets: Tensor) -> Tensor:
    """Return DINO's loss (arXiv 2104.14294, equation 3), the same on every rank.

    It is the mean cross entropy of each of the teacher's views with all other views of the student.

    Args:
        log_p: (V, B, K), the student's log probabilities, with the teacher's views first.
        targets: (G, B, K), the teacher's assignments of the G global views.
    """
    pairs = -torch.einsum("gbk,vbk->gv", targets, log_p) / log_p.shape[1]
    same = torch.eye(*pairs.shape, device=pairs.device)
    loss: Tensor = mean_over_ranks((pairs * (1 - same)).sum() / (pairs.numel() - len(pairs)))
    return loss


def token_loss(log_p: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return iBOT's loss (arXiv 2111.07832, equation 2), the same on every rank.

    It is the mean cross entropy over the masked tokens of a view, and then over the views of all
    ranks that have any; 0 where none has.

    Args:
        log_p: (M, K), the student's log probabilities of masked tokens.
        targets: (M, K), the teacher's assignments of the same tokens, which it sees.
        weights: (M,), one over the number of masked tokens of the same view.
    """
    entropies = -(targets * log_p).sum(1)
    sums = mean_over_ranks(torch.stack([(entropies * weights).sum(), weights.sum()]))
    loss: Tensor = sums[0] / sums[1].clamp(min=1e-6)
    return loss
