"""Contrast of pairs: each row is to be recognised by its partner among those of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import gather_rows
from lemumo_core.losses.loss import mean_of_valid

NEVER = -1e30
"""Logit of what is no candidate; finite, so that rows without candidates have no NaN."""
LEAST_SQUARE = 1e-12
"""Squared distances are not taken as smaller: the square root has no gradient at 0."""


def info_nce(anchors: Tensor, positives: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE (arXiv 1807.03748) from anchors to positives, the same on every rank.

    Args:
        anchors: (n, D), unit rows.
        positives: (n, D), unit rows; row i belongs to row i of the anchors.
        valid: bool (n,), which rows are pairs.
        temperature: of the softmax.
    """
    candidates = gather_rows(positives)
    own = (anchors * positives).sum(1) / temperature
    return _recognized(anchors @ candidates.T / temperature, own, valid)


def symmetric_info_nce(one: Tensor, other: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return the mean of InfoNCE from either side to the other, the same on every rank.

    It is the loss of CLIP (arXiv 2103.00020, figure 3), and half of the sum that ImageBind
    (arXiv 2305.05665, section 3.2) takes; computed in at least float32 under any autocast.

    Args:
        one: (n, D), of any length; only directions count.
        other: (n, D); row i belongs to row i of the others.
        valid: bool (n,), which rows are pairs.
        temperature: of the softmax.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = (functional.normalize(_in_float32(x), dim=1) for x in (one, other))
        both = info_nce(one, other, valid, temperature), info_nce(other, one, valid, temperature)
        return torch.stack(both).mean()


def code_log_posterior(features: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Return log p(code | feature), (n, K): the softmax of negative distances.

    Args:
        features: (n, D).
        codes: (K, D).
        temperature: of the softmax; at 1, unit vectors give nearly uniform posteriors.
    """
    squares = features.square().sum(1, keepdim=True) + codes.square().sum(1)
    squares = squares - 2 * features @ codes.T
    return (-squares.clamp(min=LEAST_SQUARE).sqrt() / temperature).log_softmax(1)


def code_matching(log_p: Tensor, log_q: Tensor, valid: Tensor) -> Tensor:
    """Contrast the code posteriors of pairs (cross-modal code matching, arXiv 2106.05438).

    The score of row i and partner j is the negative of two cross entropies,
    sum_k p_i log q_j + q_i log p_j.

    Args:
        log_p: (n, K), log posteriors of one side.
        log_q: (n, K), of the other.
        valid: bool (n,), which rows are pairs.
    """
    p, q = log_p.exp(), log_q.exp()
    scores = p @ gather_rows(log_q).T + q @ gather_rows(log_p).T
    return _recognized(scores, (p * log_q + q * log_p).sum(1), valid)


def _recognized(scores: Tensor, own: Tensor, valid: Tensor) -> Tensor:
    there = gather_rows(valid.to(scores.dtype)) > 0.5
    scores = scores.masked_fill(~there, NEVER)
    return mean_of_valid(torch.logsumexp(scores, 1) - own, valid)


def _in_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
