"""Separable resampling of batches of images, one set of weights per crop.

Every output row is a weighted sum of a few input rows, which is what ``embedding_bag`` computes:
exact float32 whatever the matmul precision, and far less work than dense interpolation matrices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.crops import Axis


class Taps(NamedTuple):
    """Weights of one axis.

    Output pixel i of crop r is the sum over k of weight[r, i, k] * input[source[r, i, k]].

    source: int64 (R, n, K). weight: float32 (R, n, K), 1 in sum over K.
    """

    source: Tensor
    weight: Tensor


def antialiased_taps(axis: Axis) -> Taps:
    """Return bilinear weights, the triangle widened when shrinking.

    They equal ``interpolate(antialias=True)``.

    Pixels outside the crop have no influence.
    """
    length = axis.length[:, None, None].to(torch.float32)
    step = length / axis.size
    support = step.clamp(min=1.0)
    center = (axis.order[..., None] + 0.5) * step
    first = (center - support + 0.5).floor().clamp(min=0)
    widest = max(axis.longest / axis.size, 1.0)
    index = first + torch.arange(math.ceil(2 * widest) + 1, device=length.device)
    weight = (1 - (index + 0.5 - center).abs() / support).clamp(min=0)
    weight = torch.where(index < length, weight, 0.0)
    weight = weight / weight.sum(-1, keepdim=True)
    index = torch.minimum(index, length - 1).to(torch.int64) + axis.start[:, None, None]
    return Taps(index, weight)


def gaussian_taps(sigma: Tensor, size: int, taps: int) -> Taps:
    """Return the weights of a Gaussian blur of an axis of ``size`` pixels, reflected at its ends.

    Args:
        sigma: float32 (R,) pixels; 0 leaves the axis as it is.
        size: more than taps // 2.
        taps: odd number of taps.
    """
    offset = torch.arange(taps, device=sigma.device) - taps // 2
    z = offset / sigma.clamp(min=1e-3)[:, None]
    weight = torch.softmax(-0.5 * z * z, dim=1)
    index = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()
    index = torch.minimum(index, 2 * (size - 1) - index)
    shape = (len(sigma), size, taps)
    return Taps(index.expand(shape), weight[:, None].expand(shape))


def by_column(images: Tensor) -> Tensor:
    """Arrange images (B, H, W, C) of any dtype for ``resample``: float32 (B, W, C, H)."""
    return images.permute(0, 2, 3, 1).contiguous().to(torch.float32)


def resample(columns: Tensor, row_taps: Taps, column_taps: Taps) -> Tensor:
    """Apply taps to both axes.

    Args:
        columns: B images from ``by_column``.
        row_taps: of R crops; crop r reads image r % B.
        column_taps: likewise.

    Returns:
        float32 (R, h, w, C).
    """
    # Columns first: driving images are wide, so this leaves the least for the second pass. The
    # channels stay beside the columns, so that the turn between the passes is a plain transpose.
    *_, channels, height = columns.shape
    narrow = _along(columns.flatten(2), column_taps).unflatten(2, (channels, height))
    shrunk = _along(narrow.permute(0, 3, 1, 2).contiguous().flatten(2), row_taps)
    return shrunk.unflatten(2, (-1, channels))


def _along(table: Tensor, taps: Taps) -> Tensor:
    """Apply taps along the second dimension of contiguous tables (B, L, F): (R, n, F)."""
    count, length, _ = table.shape
    crops, size, _ = taps.source.shape
    start = torch.arange(crops, device=table.device) % count * length
    index = (taps.source + start[:, None, None]).flatten(0, 1)
    weight = taps.weight.flatten(0, 1)
    rows = table.flatten(0, 1)
    summed = functional.embedding_bag(index, rows, mode="sum", per_sample_weights=weight)
    return summed.unflatten(0, (crops, size))
