"""Depth hypotheses at places in the view, from the LiDAR returns around them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

REACH = 0.2
"""Share of the view's width within which a return is found sideways; up and down there is no
limit."""
WIDENINGS = 1 / 704, 1 / 352, 1 / 176
"""Shares of the view's width, to either side, over which a return stands in for its neighbours in
the search up and down: beams leave gaps along a row, and are bent."""
SIDEWAYS = 2.0
"""How many pixels farther up or down a return may be for each that it is nearer sideways."""
NOWHERE = -1.0
"""Row or column of a return that is not there."""
FAR_PX = 256.0
"""Distance of a return that is not there."""
SOFTENING_PX = 0.3
HYPOTHESES = 8
"""How many there are of a place, see ``hypotheses_at``."""
LEAST_M = 0.1


class ReturnsAround(NamedTuple):
    """The return of each pixel, and the next ones above, below, to the left and to the right.

    Float32 (B, 5, H, W) each, in this order, 0 where there is none.

    Attributes:
        inverse: 1 / metres.
        u, v: where it lies, relative to the pixel's centre, pixels.
        known: 1 where there is one.
    """

    inverse: Tensor
    u: Tensor
    v: Tensor
    known: Tensor


def returns_around(depth_m: Tensor, valid: Tensor, u: Tensor, v: Tensor) -> ReturnsAround:
    """Find the returns around each pixel, float32 (B, 1, H, W) each.

    Args:
        depth_m: of the return of each pixel, metres.
        valid: 1 where there is one.
        u: how far right of the pixel's centre it lies, pixels.
        v: how far below.
    """
    rows, columns = valid.shape[2:]
    row = torch.arange(rows, device=valid.device, dtype=valid.dtype).view(1, 1, -1, 1)
    column = torch.arange(columns, device=valid.device, dtype=valid.dtype).view(1, 1, 1, -1)
    # Where each return stands is found first, as row and column, and then what it is: one look-up.
    own = torch.where(valid > 0, column, NOWHERE)
    vertical = [_next_vertical(own, row, column, sign) for sign in (1, -1)]
    reach = round(REACH * columns)
    horizontal = [_next(valid > 0, column, 3, sign, reach) for sign in (1, -1)]
    level = [torch.where(found > NOWHERE, row, NOWHERE) for found in horizontal]
    own_row = torch.where(valid > 0, row, NOWHERE)
    at_row = torch.cat([own_row, *(found for found, _ in vertical), *level], dim=1)
    at_column = torch.cat([own, *(found for _, found in vertical), *horizontal], dim=1)
    known = ((at_row > NOWHERE) & (at_column > NOWHERE)).to(valid.dtype)
    at_row = torch.where(known > 0, at_row, row)
    at_column = torch.where(known > 0, at_column, column)
    pixel = (at_row.long() * columns + at_column.long()).flatten(1)
    values = torch.cat([valid / depth_m.clamp(min=LEAST_M), u, v], dim=1).flatten(2)
    found = values.gather(2, pixel[:, None].expand(-1, 3, -1)).unflatten(2, (5, rows, columns))
    inverse, u, v = (known * value for value in found.unbind(1))
    return ReturnsAround(
        inverse, u + known * (at_column - column), v + known * (at_row - row), known
    )


def hypotheses_at(around: ReturnsAround, coarse_m: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return depth hypotheses of one place in each pixel.

    They are the depth of the nearest return; linear in inverse depth between the returns around;
    of the next return above and below; of the closest and the farthest of the returns around; their
    mean, weighted by the inverse square of the distance in the image; and ``coarse_m``. Where no
    return is around, all are ``coarse_m``.

    Linear interpolation over the Delaunay triangles of the returns is too slow on a vehicle. In its
    place stands interpolation between the next returns above and below, and between those to the
    left and to the right, weighted by how near each pair is to each other.

    Args:
        around: the returns.
        coarse_m: float32 (B, 1, H, W), metres, what is known of the depth without them.
        u: the place, relative to the pixel's centre, pixels; broadcast to (B, 1, H, W).
        v: likewise.

    Returns:
        float32 (B, 8, H, W), log of metres.
    """
    inverse, known = around.inverse, around.known
    right, below = around.u - u, around.v - v
    square = torch.where(known > 0, right.square() + below.square(), FAR_PX**2)
    is_nearest = (square <= square.amin(1, keepdim=True)).float()
    nearest = (is_nearest * inverse).sum(1, keepdim=True) / is_nearest.sum(1, keepdim=True)
    weight = known / (square + SOFTENING_PX**2)
    mean = (weight * inverse).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-9)
    up, down = inverse[:, 1:2], inverse[:, 2:3]
    has_up, has_down = known[:, 1:2], known[:, 2:3]
    linear, spanned = _interpolated(inverse, right, below, known)
    seen = [
        nearest,
        torch.where(spanned > 0, linear, nearest),
        torch.where(has_up > 0, up, nearest),
        torch.where(has_down > 0, down, nearest),
        inverse.amax(1, keepdim=True),
        torch.where(known > 0, inverse, 1.0 / LEAST_M).amin(1, keepdim=True),
        mean,
    ]
    coarse = 1.0 / coarse_m.clamp(min=LEAST_M)
    any_known = known.amax(1, keepdim=True) > 0
    every = torch.cat([torch.where(any_known, torch.cat(seen, dim=1), coarse), coarse], dim=1)
    return -every.clamp(min=1e-4).log()


def _interpolated(
    inverse: Tensor, right: Tensor, below: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """Interpolate inverse depth between the returns above and below, left and right of the place.

    Returns:
        The inverse depth, and 0 where there is no pair, (B, 1, H, W) each.
    """
    up_down = _between(torch.stack([below, inverse, known]), 1, 2)
    left_right = _between(torch.stack([right, inverse, known]), 3, 4)
    weight = up_down[1] + left_right[1]
    value = up_down[0] * up_down[1] + left_right[0] * left_right[1]
    return value / weight.clamp(min=1e-9), weight


def _between(returns: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """Interpolate between the two returns on either side of the place along an axis.

    The pixel's own return is one of them, where it has one.

    Args:
        returns: (3, B, 5, H, W), how far along the axis they lie, inverse depth, and known.
        before: index of the next return on the one side.
        after: on the other.

    Returns:
        Inverse depth (B, 1, H, W), and its weight, the greater the nearer the two are to each
        other; 0 where there are no two.
    """
    own = returns[:, :, :1]
    is_own, passed = own[2] > 0, own[0] > 0
    first = torch.where(is_own & ~passed, own, returns[:, :, before : before + 1])
    second = torch.where(is_own & passed, own, returns[:, :, after : after + 1])
    gap = (second[0] - first[0]).clamp(min=1e-3)
    share = (-first[0] / gap).clamp(0.0, 1.0)
    inverse = first[1] + share * (second[1] - first[1])
    return inverse, first[2] * second[2] / (gap + SOFTENING_PX).square()


def _next_vertical(own: Tensor, row: Tensor, column: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Find the next return above or below each pixel, or near there.

    The narrow search finds what lies in line with the pixel, or skips a beam where that has a gap;
    the wide one finds the nearest beam, or takes what is beside the pixel's own line. Of both, and
    one between, the return that is nearest is taken, ``SIDEWAYS``.

    Args:
        own: column of the return of each pixel, (B, 1, H, W), ``NOWHERE`` where there is none.
        row: of each pixel, broadcast to (B, 1, H, W).
        column: likewise.
        sign: 1 looks up, -1 down.

    Returns:
        Its row and its column, ``NOWHERE`` where there is none.
    """
    rows, columns = own.shape[2:]
    widened, wide = own, 0
    best_row = best_column = torch.full_like(own, NOWHERE)
    least = torch.full_like(own, SIDEWAYS * FAR_PX)
    for share in WIDENINGS:
        for step in range(wide + 1, math.ceil(share * columns) + 1):
            for shift in (step, -step):
                widened = torch.where(widened > NOWHERE, widened, _moved(own, 3, shift))
        wide = math.ceil(share * columns)
        at_row = _next(widened > NOWHERE, row, 2, sign, rows)
        at_column = widened.gather(2, at_row.clamp(min=0).long())
        away = (at_row - row).abs() + SIDEWAYS * (at_column - column).abs()
        away = torch.where(at_row > NOWHERE, away, SIDEWAYS * FAR_PX)
        best_row = torch.where(away < least, at_row, best_row)
        best_column = torch.where(away < least, at_column, best_column)
        least = least.minimum(away)
    return best_row, best_column


def _next(there: Tensor, index: Tensor, dim: int, sign: int, reach: int) -> Tensor:
    """Find the next pixel along an axis where something is, without the pixel itself.

    Args:
        there: bool (B, 1, H, W).
        index: row or column of each pixel, as ``dim`` says, broadcast to (B, 1, H, W).
        dim: 2 or 3, rows or columns.
        sign: 1 looks up or to the left, -1 down or to the right.
        reach: pixels, about.

    Returns:
        Its row or column, float (B, 1, H, W), ``NOWHERE`` where there is none.
    """
    size = there.shape[dim]
    # The next one has the largest index of those before a pixel, or of those after it, mirrored.
    found = torch.where(there, index if sign > 0 else size - 1 - index, NOWHERE)
    found, step = _moved(found, dim, sign), 1
    while step < min(reach, size):
        found = found.maximum(_moved(found, dim, sign * step))
        step *= 2
    return found if sign > 0 else torch.where(found > NOWHERE, size - 1 - found, NOWHERE)


def _moved(index: Tensor, dim: int, shift: int) -> Tensor:
    """Move a map by pixels down or to the right, or up or to the left; ``NOWHERE`` moves in."""
    size = index.shape[dim]
    count = min(abs(shift), size)
    kept = index.narrow(dim, 0 if shift > 0 else count, size - count)
    border = (count, 0) if shift > 0 else (0, count)
    return functional.pad(kept, border if dim == 3 else (0, 0, *border), value=NOWHERE)
