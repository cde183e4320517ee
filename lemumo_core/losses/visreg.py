"""VISReg (arXiv 2606.02572): scale, centre and sliced-Wasserstein shape of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.distributed import gather_rows
from lemumo_core.losses.sigreg import directions_like

EPSILON = 1e-4
"""Added to the variance under the root, whose slope at 0 is infinite."""


def visreg(projections: Tensor, step: int | Tensor) -> Tensor:
    """Distance of each view's projections from N(0, I).

    With mu and sigma the mean and standard deviation of each dimension over the batch of all ranks,
    it is the mean over views of

        mean (1 - sigma)^2 + mean mu^2 + W,

    W being the squared sliced Wasserstein distance of the projections, standardised with sigma
    detached, from N(0, 1): the mean square difference, over random slices, between the sorted
    samples and the normal quantiles at (i + 1/2) / n, scaled to unit variance. Unlike SIGReg its
    gradient does not vanish where all embeddings are nearly the same.

    Args:
        projections: (V, B, d), computed in at least float32 under any autocast.
        step: seeds the directions of the slices, drawn on the CPU (``sigreg.sigreg``).

    Returns:
        Scalar, the same on every rank.
    """
    with torch.autocast(projections.device.type, enabled=False):
        x = projections.to(torch.promote_types(projections.dtype, torch.float32))
        x = gather_rows(x.transpose(0, 1)).transpose(0, 1)
        mean, std = x.mean(1, keepdim=True), (x.var(1, keepdim=True) + EPSILON).sqrt()
        standardized = (x - mean) / std.detach()
        along = directions_like(x, step)
        slices = (standardized @ along).sort(dim=1).values
        count = x.shape[1]
        share = (torch.arange(count, dtype=x.dtype, device=x.device) + 0.5) / count
        quantiles = torch.special.ndtri(share)
        quantiles = quantiles / quantiles.square().mean().sqrt()
        shape = (slices - quantiles[:, None]).square().mean()
        total: Tensor = (1.0 - std).square().mean() + mean.square().mean() + shape
        return total
