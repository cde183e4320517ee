"""Objects as points (CenterNet, arXiv 1904.07850): targets that 3D and 2D detection share.

All is batched over boxes; no shape depends on how many of them are real.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_RADIUS = 1.5
MOST_RADIUS = 16.0
OVERLAP = 0.7
CENTERS_FIRST = 1e6
"""More than any ``order``: what lies beside an object comes after all centres."""
SIGMAS = 3.0
"""A Gaussian ends where it has fallen to exp(-4.5) = 0.011."""


class Cells(NamedTuple):
    """Where K objects of B images lie in a grid.

    Attributes:
        row, column: int64 (B, K), 0 for objects outside.
        offset: float32 (B, K, 2) of the centre in its cell, in cells (x, y), in [0, 1); 0 for
            objects outside.
        inside: bool (B, K).
    """

    row: Tensor
    column: Tensor
    offset: Tensor
    inside: Tensor


class CenterTargets(NamedTuple):
    """Targets of a head.

    Attributes:
        heatmap: float32 (B, C, h, w), 1 at the centres of all objects, also of those that do not
            count, and in regions to ignore, so that nothing is asked for or forbidden there.
        labelled: bool (B,), False for images whose objects are not known.
        class_ids, cell: int64 (B, K), of the objects; cell = row * w + column.
        valid: bool (B, K), which of them are to be found, at most one in a cell.
        order: (B, K); a cell beside several objects belongs to that of the least.
        values: float32 (B, K, channels) of what is regressed at the centres, by the name of the
            head's output.
    """

    heatmap: Tensor
    labelled: Tensor
    class_ids: Tensor
    cell: Tensor
    valid: Tensor
    order: Tensor
    values: dict[str, Tensor]


def cells_of(pixels: Tensor, stride: int, shape: tuple[int, int]) -> Cells:
    """Return the cells of pixels (B, K, 2) u, v in a grid (h, w); NaN lies outside.

    Cell i covers [stride * i - 0.5, stride * (i + 1) - 0.5): pixel centres are integers.
    """
    position = (pixels + 0.5) / stride
    corner = position.floor()
    u, v = corner.unbind(-1)
    inside = (u >= 0) & (u < shape[1]) & (v >= 0) & (v < shape[0])
    column, row = torch.where(inside[..., None], corner, 0.0).long().unbind(-1)
    return Cells(row, column, torch.where(inside[..., None], position - corner, 0.0), inside)


def overlap_radius(extent: Tensor) -> Tensor:
    """Return how far a box may be moved along one axis until its IoU with itself falls to 0.7.

    (extent - d) / (extent + d) = 0.7. The size that an object has in the image thus decides how
    far from its centre a peak is not yet a mistake, along x and y apart.

    Args:
        extent: of boxes in the image, cells, any shape.

    Returns:
        Cells, within [1.5, 16]: at least the neighbouring cells.
    """
    return (extent * (1 - OVERLAP) / (1 + OVERLAP)).clamp(LEAST_RADIUS, MOST_RADIUS)


def gaussian_heatmap(
    cells: Cells, class_ids: Tensor, radius: Tensor, most_radius: float, shape: tuple[int, int, int]
) -> Tensor:
    """Draw Gaussians around cells, the largest one where several meet.

    Args:
        cells: of the objects; those outside are left out.
        class_ids: int64 (B, K), negative for padding.
        radius: (B, K, 2) along x and y, cells: three standard deviations, and where it ends.
        most_radius: bound of all radii.
        shape: (C, h, w).

    Returns:
        float32 (B, C, h, w), exactly 1 at the cells.
    """
    classes, height, width = shape
    most = math.floor(most_radius)
    reach = torch.arange(-most, most + 1, device=radius.device)
    column, row = (at[..., None] + reach for at in (cells.column, cells.row))  # (B, K, window)
    x, y = (
        torch.where(reach.abs() <= r, torch.exp(-0.5 * (reach * SIGMAS / r) ** 2), 0.0)
        for r in radius[..., None, :].unbind(-1)
    )
    drawn = (cells.inside & (class_ids >= 0))[..., None]
    inside_x = drawn & (column >= 0) & (column < width)
    inside_y = drawn & (row >= 0) & (row < height)
    inside = inside_y[..., :, None] & inside_x[..., None, :]
    row = class_ids[..., None] * height + row
    # What falls outside shares one more cell, dropped at the end.
    index = torch.where(inside, row[..., :, None] * width + column[..., None, :], math.prod(shape))
    heat = x.new_zeros(len(x), math.prod(shape) + 1)
    value = y[..., :, None] * x[..., None, :]
    heat.scatter_reduce_(1, index.flatten(1), value.flatten(1), "amax")
    return heat[:, :-1].view(-1, classes, height, width)


def without_regions(heatmap: Tensor, regions: Tensor, stride: int) -> Tensor:
    """Set a heatmap to 1 in all cells whose middle lies in a region to ignore.

    Args:
        heatmap: (B, C, h, w).
        regions: (B, M, 4) x_min, y_min, x_max, y_max in pixels of the view; empty ones are padding.
        stride: pixels of the view to a cell.
    """
    height, width = heatmap.shape[2:]
    u, v = (
        (torch.arange(cells, device=regions.device) + 0.5) * stride - 0.5
        for cells in (width, height)
    )
    x_min, y_min, x_max, y_max = regions[..., None].unbind(2)  # (B, M, 1) each
    columns = (u >= x_min) & (u <= x_max) & (x_max > x_min)
    rows = (v >= y_min) & (v <= y_max) & (y_max > y_min)
    ignored = (rows[..., :, None] & columns[..., None, :]).any(dim=1, keepdim=True)
    return torch.where(ignored, 1.0, heatmap)


def keep_nearest(cell: Tensor, valid: Tensor, order: Tensor, cells: int) -> Tensor:
    """Keep of the valid objects that share a cell those of the least ``order``.

    A cell can describe one object only.

    Args:
        cell: int64 (B, K).
        valid: bool (B, K).
        order: (B, K), e.g. depth.
        cells: number of cells of the grid.

    Returns:
        bool (B, K).
    """
    order = torch.where(valid, order, math.inf)
    least = order.new_full((len(order), cells), math.inf).scatter_reduce_(1, cell, order, "amin")
    return valid & (order == least.gather(1, cell))


class RegressionTargets(NamedTuple):
    """Where values are regressed, and which.

    Attributes:
        cell: int64 (B, M), as in ``CenterTargets``.
        weight: float32 (B, M), 0 where nothing is regressed.
        values: float32 (B, M, channels) by name.
    """

    cell: Tensor
    weight: Tensor
    values: dict[str, Tensor]


def targets_at_centers(targets: CenterTargets) -> RegressionTargets:
    """Return the paper's: values of objects to be found, at their centres alone."""
    return RegressionTargets(targets.cell, targets.valid.float(), targets.values)


def targets_in_3x3(targets: CenterTargets) -> RegressionTargets:
    """Return targets of objects in the 3 x 3 cells around their centres.

    Weights are 1 at the centre, 1/2 beside it and 1/4 at the corners.

    Few cells hold a centre; their neighbours see nearly the same and teach nine times as much
    (TTFNet, arXiv 1909.00700), and a peak that is a cell off still tells of its object. A centre
    belongs to its own object, ``offset`` counts from the cell that is asked.

    Args:
        targets: of K objects; M is 9 K.
    """
    height, width = targets.heatmap.shape[2:]
    step = torch.arange(-1, 2, device=targets.cell.device)
    down, right = (way.flatten() for way in torch.meshgrid(step, step, indexing="ij"))
    row = (targets.cell // width)[..., None] + down
    column = (targets.cell % width)[..., None] + right
    asked = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    asked = (asked & targets.valid[..., None]).flatten(1)
    cell = torch.where(asked, (row * width + column).flatten(1), 0)
    apart = down.abs() + right.abs()
    order = (targets.order[..., None] + CENTERS_FIRST * (apart > 0)).flatten(1)
    weight = keep_nearest(cell, asked, order, height * width) * 0.5 ** apart.repeat(row.shape[1])
    values = {name: value.repeat_interleave(9, dim=1) for name, value in targets.values.items()}
    shift = torch.stack([right, down], dim=-1).repeat(row.shape[1], 1)
    return RegressionTargets(cell, weight, values | {"offset": values["offset"] - shift})
