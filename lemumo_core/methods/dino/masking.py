"""Blocks of the patch grid that are hidden from the student."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.crops import draw_crops
from lemumo_core.data.pinned import to_device
from lemumo_core.methods.masked_modeling.masking import Masks

MASKED_VIEWS = 0.5
"""Share of the views of which a block is masked, as in iBOT."""
ASPECT = 0.3, 1 / 0.3
"""Range of a block's aspect ratio beside the grid's, as in BEiT (arXiv 2106.08254) and iBOT."""


class BlockMasks(NamedTuple):
    """Masks of R views over a grid of N cells.

    Attributes:
        hidden: bool (R, N), which cells the student does not see.
        at: int64 (M,), where these are in (R N,).
        weights: float32 (M,), one over the number of hidden cells of the same view.
        grid: rows and columns.
    """

    hidden: Tensor
    at: Tensor
    weights: Tensor
    grid: tuple[int, int]

    def to(self, device: torch.device) -> BlockMasks:
        """Copy the masks to a device."""
        hidden, at, weights = (to_device(x, device) for x in self[:3])
        return BlockMasks(hidden, at, weights, self.grid)

    def shown(self, hidden: Tensor) -> Masks:
        """Return ``hidden``, in any order of rows, as masks of both modalities."""
        cells = torch.arange(hidden.shape[1], device=hidden.device)
        return Masks(cells, ~hidden[:, None].expand(-1, 2, -1), self.grid)


def draw_block_masks(
    rows: Tensor,
    count: int,
    grid: tuple[int, int],
    share: tuple[float, float],
    generator: torch.Generator,
) -> BlockMasks:
    """Draw masks for all views of a step, and return those of some.

    Half of the views have a rectangle masked; BEiT and iBOT join several to a block.

    Args:
        rows: int64, which views to return.
        count: views of all ranks.
        grid: rows and columns of the patch grid.
        share: range of a rectangle's share of the grid.
        generator: on the CPU, as the masks are: their number is known without waiting for a device.
    """
    blocks = draw_crops(count, grid, grid, share, ASPECT, (0.0, 0.0), generator)
    masked = torch.rand(count, generator=generator) < MASKED_VIEWS
    left, top, width, height, _ = blocks.table.unbind(1)
    inside = []
    for start, length, cells in ((top, height, grid[0]), (left, width, grid[1])):
        at = torch.arange(cells)
        inside.append((at >= start[:, None]) & (at < (start + length)[:, None]))
    hidden = inside[0][:, :, None] & inside[1][:, None] & masked[:, None, None]
    hidden = hidden.flatten(1)[rows]
    counts = hidden.sum(1, keepdim=True).clamp(min=1)
    weights = (1.0 / counts).expand(hidden.shape)[hidden]
    return BlockMasks(hidden, hidden.flatten().nonzero().flatten(), weights, grid)
