"""Signs of collapse of CMCR's features and codes, for the log."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.methods.cmcr.codebook import Codebook


@torch.no_grad()
def monitor(codebook: Codebook, points: Tensor, pixels: Tensor, valid: Tensor) -> dict[str, float]:
    """Compute the scalars of one step over all ranks, which call this together.

    Args:
        codebook: of the method.
        points: (n, D), shared features of the points of pairs.
        pixels: (n, D), of their pixels.
        valid: bool (n,), which rows are pairs.

    Returns:
        ``pairs``, their number. ``points_std`` and ``pixels_std``: root of the mean variance of
        features over rows, 0 where all are alike and sqrt(1 / D) at most. ``code_perplexity``: of
        the codes of points, 1 where one serves all. ``cosine`` of pairs, and ``cosine_shuffled``,
        of each point with the next pair's pixel. Without pairs, ``pairs`` alone.
    """
    weights = valid.to(points.dtype)
    count = mean_over_ranks(weights.sum())
    scalars = {"pairs": float(count) * world_size()}
    if count == 0:
        return scalars
    for name, x in (("points", points), ("pixels", pixels)):
        mean = mean_over_ranks((weights[:, None] * x).sum(0)) / count
        square = mean_over_ranks((weights[:, None] * x.square()).sum(0)) / count
        scalars[f"{name}_std"] = float((square - mean.square()).clamp(min=0).mean().sqrt())
    used = torch.zeros(len(codebook.codes), dtype=points.dtype, device=points.device)
    share = mean_over_ranks(used.index_add(0, codebook.assign(points), weights)) / count
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    scalars["code_perplexity"] = float(entropy.exp())
    for name, other, both in (
        ("cosine", pixels, weights),
        ("cosine_shuffled", pixels.roll(1, 0), weights * weights.roll(1, 0)),
    ):
        sums = mean_over_ranks(torch.stack([((points * other).sum(1) * both).sum(), both.sum()]))
        scalars[name] = float(sums[0] / sums[1].clamp(min=1e-6))
    return scalars
