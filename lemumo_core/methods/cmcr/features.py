"""Features of voxels and of the image's map: of pairs, and on patches for probes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.methods.cmcr.image_encoder import sample_map
from lemumo_core.methods.cmcr.views import CmcrViews
from lemumo_core.methods.method import ModalityFeatures
from lemumo_core.model.config import PATCH


class PointFeatures(NamedTuple):
    """Features (V, D) of voxels: shared, of unit length, and specific."""

    shared: Tensor
    specific: Tensor


def paired_features(
    views: CmcrViews, pairs: Tensor, points: PointFeatures, shared_map: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shared features of both sides of pairs.

    Args:
        views: B samples.
        pairs: int64 (B, P), numbers of returns; -1 for padding.
        points: features of the voxels.
        shared_map: (B, D, h, w), the image's shared features, not normalised.

    Returns:
        Unit rows (B P, D) of points and of pixels, and bool (B P,), which are no padding.
    """
    valid, number = (pairs >= 0).flatten(), pairs.clamp(min=0)
    returns = views.returns
    if not len(returns.voxel):  # nothing is valid: any rows will do that have a gradient
        zero = shared_map.new_zeros(len(valid), shared_map.shape[1])
        return zero + 0 * points.shared.sum(), zero + 0 * shared_map.sum(), valid
    point = points.shared[returns.voxel[number.flatten()]]
    pixel = sample_map(shared_map, returns.row[number], returns.column[number], views.size)
    return point, functional.normalize(pixel.flatten(0, 1), dim=1), valid


def point_tokens(views: CmcrViews, points: PointFeatures) -> tuple[Tensor, Tensor]:
    """Average the features of the returns in each patch, without gradient.

    Args:
        views: B samples, with the returns that they show.
        points: features of their voxels.

    Returns:
        Tokens (B, N, 2 D + 1), shared, specific and whether there is a return, and bool (B, N),
        which patches have one.
    """
    batch, *grid = views.masked.shape
    both = torch.cat([points.shared, points.specific], 1).detach()
    both = torch.cat([both, both.new_ones(len(both), 1)], 1)[views.returns.voxel]
    cell = views.returns.cell((grid[0], grid[1]))
    sums = both.new_zeros(views.masked.numel(), both.shape[1]).index_add(0, cell, both)
    tokens = (sums / sums[:, -1:].clamp(min=1)).view(batch, -1, sums.shape[1])
    return tokens, tokens[..., -1] > 0.5


def image_tokens(shared_map: Tensor, specific_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring both heads' maps to patches.

    Args:
        shared_map: (B, D, h, w).
        specific_map: (B, D, h, w).
        size: (H, W) of the view.

    Returns:
        Tokens (B, N, 2 D).
    """
    both = torch.cat([functional.normalize(shared_map, dim=1), specific_map], 1)
    grid = size[0] // PATCH, size[1] // PATCH
    if both.shape[2:] != grid:
        both = functional.interpolate(both, size=grid, mode="bilinear", align_corners=False)
    return both.flatten(2).transpose(1, 2)


def pooled_features(tokens: Tensor, valid: Tensor) -> ModalityFeatures:
    """Add the mean of the valid tokens (B, N, D) of each sample."""
    weights = valid[..., None].to(tokens.dtype)
    pooled = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
    return ModalityFeatures(tokens, pooled, valid)
