"""Correspondences: tokens of several views of a sample at the same points of the canvas."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.crops import Crops
from lemumo_core.model.config import PATCH

POINTS = 4, 4
"""Rows and columns of points in the part of the canvas that all views of a sample show."""


def sample_shared_tokens(tokens: Tensor, crops: Crops, views: int) -> Tensor:
    """Sample the tokens of every view bilinearly at points that all views of a sample show.

    The points are the centres of ``POINTS`` cells of the intersection of the sample's crops. Crops
    are random and so are the points.

    Args:
        tokens: (V B, N, D), row v * B + b as in ``View``, N the patch grid of the views.
        crops: those of these rows. Crops of a sample must overlap.
        views: V.

    Returns:
        (V, B P, D), P the number of points.
    """
    grid = crops.size[0] // PATCH, crops.size[1] // PATCH
    axes = []
    for axis, count in zip((crops.columns, crops.rows), (POINTS[1], POINTS[0]), strict=True):
        start, end = (x.unflatten(0, (views, -1)) for x in (axis.start, axis.start + axis.length))
        first, beyond = start.amax(0), end.amin(0)
        share = (torch.arange(count, device=first.device) + 0.5) / count
        canvas = first[:, None] + (beyond - first)[:, None] * share - 0.5  # (B, count)
        # grid_sample's coordinates run from -1 to 1, border to border.
        axes.append((axis.position(canvas.repeat(views, 1)) + 0.5) / axis.size * 2 - 1)
    columns, rows = axes
    shape = len(tokens), POINTS[0], POINTS[1]
    at = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    found = functional.grid_sample(
        maps, at.to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.unflatten(found.flatten(2).transpose(1, 2), 0, (views, -1)).flatten(1, 2)
