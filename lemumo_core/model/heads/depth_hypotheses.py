"""Depth hypotheses of cells of 4 x 4 pixels, from the LiDAR returns in and around them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

CELL = 4
"""Pixels a side."""
FARTHEST_LOG = 8.0
"""More than the log(1 + metres) of any return."""


class CellReturns(NamedTuple):
    """Returns in cells of 4 x 4 pixels, float32 (B, 1, H/4, W/4) each, 0 where there is none.

    nearest, farthest, mean: log(1 + metres). share: of the cell's pixels that have one.
    """

    nearest: Tensor
    farthest: Tensor
    mean: Tensor
    share: Tensor


def cell_returns(companion: Tensor, depth_max_m: float) -> CellReturns:
    """Reduce a LiDAR companion to cells.

    Args:
        companion: float32 (B, H, W, C), depth / ``depth_max_m`` and, for C of 2 or more, validity;
            else 0 is unknown.
        depth_max_m: of the input, metres.
    """
    valid = (companion[..., min(1, companion.shape[-1] - 1)] > 0).float()
    log_depth = (1.0 + depth_max_m * companion[..., 0]).log() * valid
    closeness = (FARTHEST_LOG - log_depth) * valid
    most = functional.max_pool2d(torch.stack([closeness, log_depth], dim=1), CELL)
    sums = functional.avg_pool2d(torch.stack([log_depth, valid], dim=1), CELL)
    total, share = sums.split(1, dim=1)
    nearest = torch.where(share > 0, FARTHEST_LOG - most[:, :1], 0.0)
    return CellReturns(nearest, most[:, 1:], total / share.clamp(min=CELL**-2), share)


def depth_hypotheses(returns: CellReturns, start: Tensor) -> Tensor:
    """Return three log depths of each cell: of its nearest and its farthest return, and their mean.

    A cell without returns takes the nearest of the first cell below it that has one (the foot of
    what stands there), the farthest of the first one above (what lies behind), and the mean of its
    surroundings (``filled``), which also helps where there is none below or above.

    Args:
        returns: of all cells.
        start: (B, 1, 1, 1), log depth of a map without returns.

    Returns:
        float32 (B, 3, h, w), log(1 + metres).
    """
    mean = filled(returns.mean, returns.share, start)
    known = (returns.share > 0).float()
    maps = []
    for values, upwards in ((returns.nearest, True), (returns.farthest, False)):
        carried, reached = _carried(values, known, upwards)
        maps.append(torch.where(reached > 0, carried, mean))
    return torch.cat([*maps, mean], dim=1)


def _carried(values: Tensor, known: Tensor, upwards: bool) -> tuple[Tensor, Tensor]:
    """Known values carried along columns into the cells that have none, in doubling steps."""
    rows, step = values.shape[2], 1
    while step < rows:
        border = (0, 0, 0, step) if upwards else (0, 0, step, 0)
        rest = slice(step, None) if upwards else slice(None, -step)
        moved, moved_known = (functional.pad(x[:, :, rest], border) for x in (values, known))
        values = torch.where(known > 0, values, moved)
        known = torch.maximum(known, moved_known)
        step *= 2
    return values, known


def neighbors(maps: Tensor) -> Tensor:
    """Stack maps (B, C, h, w) of the 3 x 3 cells around each cell to (B, 9 C, h, w), itself last.

    Borders repeat.
    """
    for dim in (2, 3):
        first, last = maps.narrow(dim, 0, 1), maps.narrow(dim, maps.shape[dim] - 1, 1)
        maps = torch.cat([first, maps, last], dim=dim)
    rows, columns = maps.shape[2] - 2, maps.shape[3] - 2
    around = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    shifts = [*around, (1, 1)]
    return torch.cat([maps[:, :, y : y + rows, x : x + columns] for y, x in shifts], dim=1)


def filled(mean: Tensor, share: Tensor, start: Tensor) -> Tensor:
    """Fill the holes of means (B, 1, h, w) from ever larger surroundings.

    A cell with no return takes the mean over the 2 x 2 cells that it lies in, or else over 4 x 4,
    and so on up to the whole map; ``start`` where the map is empty.

    Args:
        mean: (B, 1, h, w), of each cell.
        share: (B, 1, h, w), its weight, 0 for a hole.
        start: (B, 1, 1, 1).
    """
    cells = [torch.cat([mean * share, share], dim=1)]
    while max(cells[-1].shape[2:]) > 1:
        rows, columns = cells[-1].shape[2:]
        even = functional.pad(cells[-1], (0, columns % 2, 0, rows % 2))
        cells.append(functional.avg_pool2d(even, 2))
    least = 0.25 ** len(cells) * CELL**-2
    found = start
    for level in reversed(cells):
        total, weight = level.split(1, dim=1)
        rows, columns = level.shape[2:]
        wider = functional.interpolate(found, scale_factor=2.0)[:, :, :rows, :columns]
        found = torch.where(weight > 0, total / weight.clamp(min=least), wider)
    return found
