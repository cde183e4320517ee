"""Signs of collapse of CMCR's features and codes, and whether they are apart, for the log."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.methods.cmcr.codebook import Codebook
from lemumo_core.methods.cmcr.features import PointFeatures

LEAST = 1e-12


def monitored(points: PointFeatures, *pairs: Tensor) -> dict[str, Tensor]:
    """Return what ``monitor`` takes of a step, without gradient.

    Args:
        points: features of the voxels.
        pairs: ``paired_features``.
    """
    names = ("shared", "specific", "points", "pixels", "valid")
    return {n: x.detach() for n, x in zip(names, (*points, *pairs), strict=True)}


@torch.no_grad()
def monitor(
    codebook: Codebook,
    shared: Tensor,
    specific: Tensor,
    points: Tensor,
    pixels: Tensor,
    valid: Tensor,
) -> dict[str, float]:
    """Compute the scalars of one step over all ranks, which call this together.

    Args:
        codebook: of the method.
        shared: (V, D), shared features of voxels.
        specific: (V, D), their specific ones.
        points: (n, D), shared features of the points of pairs.
        pixels: (n, D), of their pixels.
        valid: bool (n,), which rows are pairs.

    Returns:
        ``pairs``, their number. ``points_std`` and ``pixels_std``: root of the mean variance of
        features over rows, 0 where all are alike and sqrt(1 / D) at most. ``code_perplexity``: of
        the codes of points, 1 where one serves all. ``cosine`` of pairs, and ``cosine_shuffled``,
        of each point with the next pair's pixel. ``shared_rank`` and ``specific_rank`` of the
        voxels: exp of the entropy of the covariance's eigenvalues, 1 to D. ``specific_r2``: the
        share of the specific features' variance that a linear map of the shared ones explains, 0
        where they are apart. Without pairs, ``pairs`` alone.
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
    return scalars | _decoupling(shared.double(), specific.double())


def _decoupling(shared: Tensor, specific: Tensor) -> dict[str, float]:
    both, width = torch.cat([shared, specific], 1), shared.shape[1]
    rows = mean_over_ranks(both.new_full((), float(len(both))))
    centered = both - mean_over_ranks(both.sum(0)) / rows
    covariance = mean_over_ranks(centered.T @ centered) / rows
    of_shared, cross = covariance[:width, :width], covariance[:width, width:]
    of_specific = covariance[width:, width:]
    ridge = LEAST + 1e-6 * of_shared.diagonal().mean()
    eye = torch.eye(width, dtype=both.dtype, device=both.device)
    explained = (cross * torch.linalg.solve(of_shared + ridge * eye, cross)).sum()
    scalars = {"specific_r2": float(explained / of_specific.trace().clamp(min=LEAST))}
    for name, one in (("shared", of_shared), ("specific", of_specific)):
        shares = torch.linalg.eigvalsh(one).clamp(min=LEAST)
        shares = shares / shares.sum()
        scalars[f"{name}_rank"] = float((-(shares * shares.log()).sum()).exp())
    return scalars
