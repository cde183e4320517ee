"""Tokens of several views of a sample at the same places: what ties dense features together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.crops import Crops
from lemumo_core.model.config import PATCH

PLACES = 4, 4
"""Rows and columns of places in the part of the canvas that all views of a sample show."""


def tokens_at_places(tokens: Tensor, crops: Crops, views: int) -> Tensor:
    """Tokens of every view, interpolated bilinearly at places that all views of a sample show.

    The places are the centres of ``PLACES`` cells of the intersection of the sample's crops. Crops
    are random and so are the places.

    Args:
        tokens: (V B, N, D), row v * B + b as in ``View``, N the patch grid of the views.
        crops: of these rows. Crops of a sample must overlap.
        views: V.

    Returns:
        (V, B P, D), P the number of places.
    """
    grid = crops.size[0] // PATCH, crops.size[1] // PATCH
    axes = []
    for axis, count in zip((crops.columns, crops.rows), (PLACES[1], PLACES[0]), strict=True):
        start, end = (x.unflatten(0, (views, -1)) for x in (axis.start, axis.start + axis.length))
        first, beyond = start.amax(0), end.amin(0)
        share = (torch.arange(count, device=first.device) + 0.5) / count
        canvas = first[:, None] + (beyond - first)[:, None] * share - 0.5  # (B, count)
        # grid_sample's coordinates run from -1 to 1, border to border.
        axes.append((axis.position(canvas.repeat(views, 1)) + 0.5) / axis.size * 2 - 1)
    columns, rows = axes
    shape = len(tokens), PLACES[0], PLACES[1]
    at = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    found = functional.grid_sample(
        maps, at.to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.unflatten(found.flatten(2).transpose(1, 2), 0, (views, -1)).flatten(1, 2)
