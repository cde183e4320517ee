"""Objects as points (CenterNet, arXiv 1904.07850): what its 3D and 2D objectives share.

All is batched over boxes; no shape depends on how many of them are real.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss

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
    """What a head should say.

    Attributes:
        heatmap: float32 (B, C, h, w), 1 at the centres of all objects, also of those that do not
            count, so that nothing is asked for or forbidden there.
        labelled: bool (B,), False for images whose objects are not known.
        class_ids, cell: int64 (B, K), of the objects; cell = row * w + column.
        counts: bool (B, K), which of them are to be found, at most one in a cell.
        order: (B, K); a cell beside several objects belongs to that of the least.
        values: float32 (B, K, channels) of what is regressed at the centres, by the name of the
            head's output.
    """

    heatmap: Tensor
    labelled: Tensor
    class_ids: Tensor
    cell: Tensor
    counts: Tensor
    order: Tensor
    values: dict[str, Tensor]


def cells_of(pixels: Tensor, stride: int, shape: tuple[int, int]) -> Cells:
    """Cells of pixels (B, K, 2) u, v in a grid (h, w); NaN lies outside.

    Cell i covers [stride * i - 0.5, stride * (i + 1) - 0.5): pixel centres are integers.
    """
    position = (pixels + 0.5) / stride
    corner = position.floor()
    limits = corner.new_tensor([shape[1], shape[0]])
    inside = ((corner >= 0) & (corner < limits)).all(-1)
    column, row = torch.where(inside[..., None], corner, 0.0).long().unbind(-1)
    return Cells(row, column, torch.where(inside[..., None], position - corner, 0.0), inside)


def overlap_radius(extent: Tensor) -> Tensor:
    """How far a box may be moved along one axis until its IoU with itself falls to 0.7.

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
    """Gaussians around cells, the largest one where several meet.

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
    reach = torch.arange(-math.floor(most_radius), math.floor(most_radius) + 1).to(radius.device)
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


def first_in_cell(cell: Tensor, counts: Tensor, order: Tensor, cells: int) -> Tensor:
    """Of objects that count and share a cell, keep those of the least ``order``: bool (B, K).

    A cell can describe one object only.

    Args:
        cell, counts, order: (B, K).
        cells: their number.
    """
    order = torch.where(counts, order, math.inf)
    least = order.new_full((len(order), cells), math.inf).scatter_reduce_(1, cell, order, "amin")
    return counts & (order == least.gather(1, cell))


def focal_loss(logits: Tensor, heatmap: Tensor, positive: Tensor, labelled: Tensor) -> Tensor:
    """Sum of CenterNet's focal loss (arXiv 1904.07850, equation 1, alpha 2, beta 4).

    From logits, in at least float32, in terms of log sigmoid: finite for any of them.

    Args:
        logits, heatmap: (B, C, h, w).
        positive: bool (B, C, h, w), where an object is to be found; elsewhere (1 - heatmap)^4
            weighs what is predicted.
        labelled: bool (B,), images that take part.
    """
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    found = functional.logsigmoid(x) * torch.sigmoid(-x).square()
    false = functional.logsigmoid(-x) * torch.sigmoid(x).square() * (1.0 - heatmap).pow(4)
    loss = -torch.where(positive, found, false)
    return torch.where(labelled[:, None, None, None], loss, 0.0).sum()


class Wanted(NamedTuple):
    """Where values are regressed, and which.

    Attributes:
        cell: int64 (B, M), as in ``CenterTargets``.
        weight: float32 (B, M), 0 where nothing is asked.
        values: float32 (B, M, channels) by name.
    """

    cell: Tensor
    weight: Tensor
    values: dict[str, Tensor]


def wanted_at_centers(targets: CenterTargets) -> Wanted:
    """The paper's: values of objects to be found, at their centres alone."""
    return Wanted(targets.cell, targets.counts.float(), targets.values)


def wanted_around(targets: CenterTargets, grid: tuple[int, int]) -> Wanted:
    """Values of objects to be found in the 3 x 3 cells around their centres: weight 1, 1/2 beside
    and 1/4 at the corners.

    Few cells hold a centre; their neighbours see nearly the same and teach nine times as much
    (TTFNet, arXiv 1909.00700), and a peak that is a cell off still tells of its object. A centre
    belongs to its own object, ``offset`` counts from the cell that is asked.

    Args:
        targets: of K objects; M is 9 K.
        grid: (h, w).
    """
    height, width = grid
    step = torch.arange(-1, 2, device=targets.cell.device)
    down, right = (way.flatten() for way in torch.meshgrid(step, step, indexing="ij"))
    row = (targets.cell // width)[..., None] + down
    column = (targets.cell % width)[..., None] + right
    asked = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    asked = (asked & targets.counts[..., None]).flatten(1)
    cell = torch.where(asked, (row * width + column).flatten(1), 0)
    apart = down.abs() + right.abs()
    order = (targets.order[..., None] + CENTERS_FIRST * (apart > 0)).flatten(1)
    weight = first_in_cell(cell, asked, order, height * width) * 0.5 ** apart.repeat(row.shape[1])
    values = {name: value.repeat_interleave(9, dim=1) for name, value in targets.values.items()}
    shift = torch.stack([right, down], dim=-1).repeat(row.shape[1], 1)
    return Wanted(cell, weight, values | {"offset": values["offset"] - shift})


def surprise(depths_m: Tensor, log_weights: Tensor, log_spread: Tensor, true_m: Tensor) -> Tensor:
    """Negative log likelihood of a ``DepthMixture``, but for a constant.

    In metres, the unit of the metric; but what cannot be told well, such as the depth of a far
    object without LiDAR, weighs little (arXiv 1703.04977), and only the suggestions near the truth
    are drawn to it.

    Args:
        depths_m, log_weights: (..., suggestions).
        log_spread, true_m: (..., 1).

    Returns:
        (...).
    """
    errors = (depths_m - true_m).abs() * (-log_spread).exp()
    return log_spread.squeeze(-1) - (log_weights - errors).logsumexp(-1)


def center_loss(predicted: dict[str, Any], targets: CenterTargets, around: bool = False) -> Loss:
    """Focal loss of the heatmap and L1 of the values; of ``rotation`` 1 - cos, and of
    ``log_depth``, where the head tells the distribution ``depth`` of metres, ``surprise``.

    The first is summed and divided by the number of objects to be found, the others are means by
    weight, over all ranks (of at least 1).

    Args:
        predicted: (B, channels, h, w) by name: ``heatmap`` (logits), those of ``targets.values``
            and, or None, ``depth``, a ``DepthMixture``.
        around: ask for values around the centres, too (``wanted_around``).

    Returns:
        Terms by these names; the total is their sum. The same on every rank.

    Raises:
        ValueError: heatmaps of different shapes.
    """
    logits = predicted["heatmap"]
    if logits.shape != targets.heatmap.shape:
        raise ValueError(
            f"the predicted heatmap is {tuple(logits.shape)}, the target "
            f"{tuple(targets.heatmap.shape)}"
        )
    (classes, height, width), pixels = logits.shape[1:], logits.shape[2] * logits.shape[3]
    index = torch.where(targets.counts, targets.class_ids * pixels + targets.cell, classes * pixels)
    positive = torch.zeros(len(logits), classes * pixels + 1, dtype=torch.bool, device=index.device)
    positive = positive.scatter_(1, index, True)[:, :-1].view(-1, classes, height, width)
    sums = {"heatmap": focal_loss(logits, targets.heatmap, positive, targets.labelled)}
    wanted = wanted_around(targets, (height, width)) if around else wanted_at_centers(targets)

    def at_centers(maps: Tensor) -> Tensor:
        cell = wanted.cell[:, None].expand(-1, maps.shape[1], -1)
        found = maps.flatten(2).gather(2, cell).transpose(1, 2)
        return found.to(sums["heatmap"].dtype)

    for name, value in wanted.values.items():
        said = at_centers(predicted[name])
        if name == "log_depth" and predicted.get("depth") is not None:
            depths_m, log_weights, log_spread = map(at_centers, predicted["depth"])
            error = surprise(depths_m, log_weights, log_spread, value.expm1())
        elif name == "rotation":
            error = 1.0 - (functional.normalize(said, dim=-1, eps=1e-4) * value).sum(-1)
        else:
            error = (said - value).abs().sum(-1)
        sums[name] = (wanted.weight * torch.where(wanted.weight > 0, error, 0.0)).sum()
    counts = targets.counts.sum(), wanted.weight.sum()
    together = mean_over_ranks(torch.stack([*sums.values(), *counts]))
    objects, weight = together[-2:].clamp(min=1.0 / world_size())
    terms = {
        name: total / (objects if name == "heatmap" else weight)
        for name, total in zip(sums, together, strict=False)
    }
    total = torch.stack(list(terms.values())).sum()
    return Loss(total, {name: value.detach() for name, value in terms.items()})
