"""Random masks of LiDAR returns: what is masked is the truth that depth is trained on."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

STRIDES = 2, 3, 4
"""One beam in so many is kept, as by a sensor of fewer beams."""
BEAM_SHARE, RANDOM_SHARE = 0.6, 0.25
"""How often views are masked by beams, and return by return; the rest by sectors of the scan."""
KEPT = 0.3, 0.95
"""Range of the share of returns that are kept where they are masked one by one."""
SECTOR_BEAMS, SECTOR_RETURNS = 6, 100
_PRIME, _SHIFT = 2_654_435_761, 2**32


class ReturnMasks(NamedTuple):
    """Masks of R views, one number a view each.

    Attributes:
        kind: float32 (R,), uniform in [0, 1), which picks the kind; at least 1 for no mask.
        seed: int64 (R,).
        kept: float32 (R,), see ``KEPT``.
    """

    kind: Tensor
    seed: Tensor
    kept: Tensor


def draw_return_masks(rows: int, rate: float, generator: torch.Generator) -> ReturnMasks:
    """Draw masks for views, each masked with probability ``rate``."""
    u = torch.rand(rows, 4, generator=generator).unbind(1)
    kept = KEPT[0] + (KEPT[1] - KEPT[0]) * u[1]
    return ReturnMasks(u[2] + (u[0] >= rate), (u[3] * 2**24).to(torch.int64), kept)


def masked(masks: ReturnMasks, beams: Tensor) -> Tensor:
    """Return which returns are masked.

    Args:
        masks: of R views.
        beams: int64 (R, N), the beam of each return; -1 where unknown, and for padding.

    Returns:
        bool (R, N).
    """
    kind, seed, kept = (column[:, None] for column in masks)
    number = torch.arange(beams.shape[1], device=beams.device)[None]
    one_by_one = _uniform(number * 7919 + seed) >= kept
    stride = _strides(beams.device)[seed % len(STRIDES)]
    by_beam = (beams + seed // 8) % stride != 0
    sector = (beams + seed % SECTOR_BEAMS) // SECTOR_BEAMS * 131 + number // SECTOR_RETURNS
    by_sector = _uniform(sector * 7919 + seed) >= 0.6
    found = torch.where(
        kind < BEAM_SHARE,
        by_beam,
        torch.where(kind < BEAM_SHARE + RANDOM_SHARE, one_by_one, by_sector),
    )
    return found & (kind < 1.0)


@functools.cache
def _strides(device: torch.device) -> Tensor:
    return torch.tensor(STRIDES, device=device)


def _uniform(numbers: Tensor) -> Tensor:
    """Hash whole numbers to float32 in [0, 1), the same on every device."""
    mixed = (numbers * _PRIME) % _SHIFT
    mixed = ((mixed ^ (mixed >> 15)) * 2_246_822_519) % _SHIFT
    mixed = mixed ^ (mixed >> 13)
    return mixed.to(torch.float32) / _SHIFT
