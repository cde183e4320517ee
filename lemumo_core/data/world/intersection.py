"""Where rays enter and leave solids, and which way their surfaces face."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.data.world.solids import BOX, CYLINDER, ELLIPSOID, TAPERED

SHAPES = ((BOX,), (TAPERED,), (CYLINDER, ELLIPSOID))
"""Shapes that one routine handles, big occluders first."""


def intersect(
    shapes: tuple[int, ...], shape: Tensor, taper: Tensor, o: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Ray parameters at which rays enter and leave solids.

    Args:
        shapes: one entry of ``SHAPES``; all solids are of these.
        shape: uint8 (n,).
        taper: float32 (n, 3).
        o, d: origins and directions in the solids' own axes and half sizes, (n, 3, R) or
            (n, 3, 1).

    Returns:
        near, far float32 (n, R); near < far is a hit.
    """
    if shapes == (TAPERED,):
        return _half_spaces(taper, o, d)
    inverse = (d + 1e-12).reciprocal()  # keeps slabs free of 0 / 0
    a, b = (-1 - o) * inverse, (1 - o) * inverse
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    if shapes == (BOX,):
        near = torch.maximum(torch.maximum(low[:, 0], low[:, 1]), low[:, 2])
        return near, torch.minimum(torch.minimum(high[:, 0], high[:, 1]), high[:, 2])
    # A cylinder is an ellipsoid that forgets its z, between two lids.
    weight = torch.ones(len(shape), 3, 1, device=o.device)
    weight[:, 2, 0] = (shape == ELLIPSOID).float()
    A = (weight * d * d).sum(1)
    B = (weight * o * d).sum(1)
    C = (weight * o * o).sum(1) - 1
    under = B * B - A * C
    root = under.clamp_min(0).sqrt()
    near = torch.maximum((-B - root) / A, low[:, 2])
    far = torch.minimum((-B + root) / A, high[:, 2])
    return near, torch.where(under > 0, far, -torch.inf)


def _half_spaces(taper: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Tapered boxes as six half-spaces n . q <= h: x, -x, y, -y lean by taper, z and -z do not."""
    near = torch.full_like(d[:, 0] + o[:, 0], -torch.inf)
    far = torch.full_like(near, torch.inf)
    for axis, sign, lean in (
        (0, 1, taper[:, 0]),
        (0, -1, taper[:, 1]),
        (1, 1, taper[:, 2]),
        (1, -1, taper[:, 2]),
        (2, 1, None),
        (2, -1, None),
    ):
        along, room = sign * d[:, axis], 1 - sign * o[:, axis]
        if lean is not None:
            k = lean[:, None] / 2
            along = along + k * d[:, 2]
            room = room - k * (1 + o[:, 2])
        t = room / along
        enters = along < 0
        near = torch.maximum(near, t.masked_fill(~enters, -torch.inf))
        far = torch.minimum(far, t.masked_fill(enters, torch.inf))
    return near, far


def normals(shape: Tensor, taper: Tensor, to_local: Tensor, q: Tensor) -> Tensor:
    """Outward unit normals at surface points.

    Args:
        shape: uint8 (n,).
        taper: float32 (3, n).
        to_local: float32 (9, n), the rows of the matrices that map into the solids' own axes.
        q: float32 (3, n), the points there.

    Returns:
        float32 (3, n), in the frame that ``to_local`` maps from.
    """
    # Flat faces: the half-space that the point is nearest to leaving.
    up = (1 + q[2]) / 2
    faces = (
        (0, 1.0, taper[0]),
        (0, -1.0, taper[1]),
        (1, 1.0, taper[2]),
        (1, -1.0, taper[2]),
        (2, 1.0, None),
        (2, -1.0, None),
    )
    local = torch.zeros_like(q)
    best = torch.full_like(up, -torch.inf)
    for axis, sign, lean in faces:
        excess = sign * q[axis] if lean is None else (sign * q[axis]).addcmul_(lean, up)
        nearer = excess > best
        best = torch.maximum(best, excess)
        local.masked_fill_(nearer, 0.0)
        local[axis].masked_fill_(nearer, sign)
        if lean is not None:
            local[2] += lean * nearer
    # Round ones: the point itself; a cylinder's without z, or one of its lids.
    cylinder = shape == CYLINDER
    lid = cylinder & (q[2].abs() > torch.hypot(q[0], q[1]))
    side = torch.stack([q[0], q[1], torch.where(cylinder, 0.0, q[2])])
    local = torch.where((shape >= CYLINDER) & ~lid, side, local)
    local[:2].masked_fill_(lid, 0.0)
    local[2] = torch.where(lid, q[2].sign(), local[2])
    M = to_local.view(3, 3, -1)
    out = (M[0] * local[0]).addcmul_(M[1], local[1]).addcmul_(M[2], local[2])
    return out.mul_(out.square().sum(0).rsqrt())
