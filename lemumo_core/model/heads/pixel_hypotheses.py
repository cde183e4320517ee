"""Depth hypotheses at places in the view, from the LiDAR returns around them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

REACH_ROWS, REACH_COLUMNS = 128, 64
"""Pixels within which a return is found up and down, and sideways."""
WIDEN = 2
"""Pixels sideways over which a return stands in for its neighbours in the search up and down: beams
leave gaps along a row, and are bent."""
FAR_PX = 256.0
"""Distance of a return that is not there."""
SOFTENING_PX = 0.3
HYPOTHESES = 8
"""Of a place, see ``hypotheses_at``."""
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
    own = torch.cat([valid / depth_m.clamp(min=LEAST_M), u * valid, v * valid, valid], dim=1)
    widened = own
    for step in range(1, WIDEN + 1):
        for shift in (step, -step):
            widened = _filled(widened, _moved(own, 3, shift))
    rows = [_carried(_moved(widened, 2, sign), 2, sign, REACH_ROWS) for sign in (1, -1)]
    columns = [_carried(_moved(own, 3, sign), 3, sign, REACH_COLUMNS) for sign in (1, -1)]
    every = torch.stack([own, *rows, *columns], dim=2)
    return ReturnsAround(*every.unbind(1))


def hypotheses_at(around: ReturnsAround, coarse_m: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return depth hypotheses of one place in each pixel.

    They are the depth of the nearest return; linear in inverse depth between the returns around;
    of the next return above and below; of the closest and the farthest of the returns around; their
    mean, weighted by the inverse square of the distance in the image; and ``coarse_m``. Where no
    return is around, all are ``coarse_m``.

    Linear interpolation over the Delaunay triangles of the returns is too slow on a vehicle. In its
    place stands interpolation between the next returns above and below, and between those to the
    left and to the right, weighted by how near each pair is. It is exact on a road; on walls but
    for where sideways in their pixels the returns above and below lie.

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

    Where a beam is bent, or leaves a gap, the place does not lie on the line between two returns:
    the slope of the plane through both pairs leads from there to it.

    Returns:
        The inverse depth, and 0 where there is no pair, (B, 1, H, W) each.
    """
    pairs = [
        _pair(torch.stack([inverse, right, below, known]), along, *ends)
        for along, ends in ((below, (1, 2)), (right, (3, 4)))
    ]
    (rise_1, run_1, fall_1), (rise_2, run_2, fall_2) = (pair.step for pair in pairs)
    both = pairs[0].spans * pairs[1].spans
    area = run_1 * fall_2 - run_2 * fall_1
    sound = both * (area.abs() > 0.1).float()
    area = torch.where(sound > 0, area, 1.0)
    slope_u = sound * (rise_1 * fall_2 - rise_2 * fall_1) / area
    slope_v = sound * (run_1 * rise_2 - run_2 * rise_1) / area
    total = pairs[0].weight + pairs[1].weight
    value = sum(
        pair.weight * (pair.inverse - slope_u * pair.right - slope_v * pair.below) for pair in pairs
    ) / total.clamp(min=1e-9)
    least = torch.where(known > 0, inverse, 1.0 / LEAST_M).amin(1, keepdim=True)
    return value.maximum(least).minimum(inverse.amax(1, keepdim=True)), total


class _Pair(NamedTuple):
    """Between two returns, the point that is level with the place: (B, 1, H, W) each.

    inverse: depth there. right, below: where it lies. step: from the first return to the second in
    inverse depth, to the right and down. spans: whether there are two. weight: 0 unless there are.
    """

    inverse: Tensor
    right: Tensor
    below: Tensor
    step: tuple[Tensor, Tensor, Tensor]
    spans: Tensor
    weight: Tensor


def _pair(returns: Tensor, along: Tensor, before: int, after: int) -> _Pair:
    """Find the two returns on either side of the place along an axis.

    The pixel's own return is one of them, where it has one.

    Args:
        returns: (4, B, 5, H, W), inverse depth, how far right of and below the place, and known.
        along: (B, 5, H, W), those along the axis.
        before: index of the next return on the one side.
        after: on the other.
    """
    own = returns[:, :, :1]
    is_own = own[3] > 0
    first = torch.where(is_own & (along[:, :1] <= 0), own, returns[:, :, before : before + 1])
    second = torch.where(is_own & (along[:, :1] > 0), own, returns[:, :, after : after + 1])
    axis = 2 if before == 1 else 1
    gap = (second[axis] - first[axis]).clamp(min=1e-3)
    share = (-first[axis] / gap).clamp(0.0, 1.0)
    spans = first[3] * second[3]
    step = second - first
    inverse, right, below, _ = first + share * step
    weight = spans / (gap + SOFTENING_PX).square()
    return _Pair(inverse, right, below, (step[0], step[1], step[2]), spans, weight)


def _carried(state: Tensor, dim: int, sign: int, reach: int) -> Tensor:
    """Carry the next return along an axis into the pixels that have none, in doubling steps.

    Args:
        state: (B, 4, H, W), inverse depth, u, v and whether there is a return; from one pixel on.
        dim: 2 or 3, rows or columns.
        sign: 1 takes from above or from the left, -1 from below or from the right.
        reach: pixels.
    """
    step = 1
    while step < min(reach, state.shape[dim]):
        state = _filled(state, _moved(state, dim, sign * step))
        step *= 2
    return state


def _filled(state: Tensor, other: Tensor) -> Tensor:
    """Take the other return where there is none."""
    return torch.where(state[:, 3:] > 0, state, other)


def _moved(state: Tensor, dim: int, shift: int) -> Tensor:
    """Move returns by pixels down or to the right, or up or to the left; nothing moves in.

    Where a return lies relative to the pixel changes with it.
    """
    size = state.shape[dim]
    count = min(abs(shift), size)
    kept = state.narrow(dim, 0 if shift > 0 else count, size - count)
    border = (count, 0) if shift > 0 else (0, count)
    moved = functional.pad(kept, border if dim == 3 else (0, 0, *border))
    inverse, u, v, known = moved.split(1, dim=1)
    u, v = (u - shift * known, v) if dim == 3 else (u, v - shift * known)
    return torch.cat([inverse, u, v, known], dim=1)
