"""One table of noise, the grain of all surfaces."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 512
OCTAVES = ((8, 0.2), (32, 0.25), (128, 0.3), (SIZE, 0.25))
"""Cells a table and weight."""


def noise(a: Tensor, b: Tensor) -> Tensor:
    """Look up tileable fractal noise, uniform in [0, 1), at (a, b): one texel a unit."""
    column = a.floor().int().bitwise_and_(SIZE - 1)
    row = b.floor().int().bitwise_and_(SIZE - 1)
    return _table(a.device).take(row.mul_(SIZE).add_(column).long())


@functools.cache
def _table(device: torch.device) -> Tensor:
    rng = np.random.default_rng(5)
    total = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for cells, weight in OCTAVES:
        lattice = torch.from_numpy(rng.random((1, 1, cells, cells)))
        wrapped = F.pad(lattice, (1, 1, 1, 1), mode="circular")
        scale = SIZE // cells
        grown = F.interpolate(wrapped, scale_factor=scale, mode="bilinear", align_corners=False)
        total += weight * grown[0, 0, scale : scale + SIZE, scale : scale + SIZE]
    ranks = total.flatten().argsort().argsort() / total.numel()  # makes it uniform
    return ranks.float().to(device)
