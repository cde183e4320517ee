"""Intersections of rays with solids, and normals of the solids' surfaces.

What depends on a sign is written as a minimum or maximum with it times infinity: on a CPU a
``where`` with a random mask takes many times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.world.columns import take
from lemumo_core.world.solids import BOX, CYLINDER, ELLIPSOID, TAPERED

SHAPES = ((BOX,), (TAPERED,), (CYLINDER, ELLIPSOID))
"""Shapes that one routine handles, big occluders first."""
_FACES = torch.tensor([[1.0, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1]])
"""Normals (3, 6) of a box's front, rear, left, right, top and bottom, in its own axes."""


def intersect(
    shapes: tuple[int, ...], shape: Tensor, taper: Tensor, o: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ray parameters at which rays enter and leave solids.

    Args:
        shapes: one entry of ``SHAPES``; all solids are of these.
        shape: uint8 (n,).
        taper: float32 (n, 3).
        o: origins in the solids' own axes and half sizes, (n, 3, R) or (n, 3, 1).
        d: directions likewise.

    Returns:
        near, far float32 (n, R); near < far is a hit.
    """
    if shapes == (TAPERED,):
        return _half_spaces(taper, o, d)
    if shapes == (BOX,):
        low, high = _slab(o, d)
        near = torch.maximum(torch.maximum(low[:, 0], low[:, 1]), low[:, 2])
        return near, torch.minimum(torch.minimum(high[:, 0], high[:, 1]), high[:, 2])
    # A cylinder is an ellipsoid that forgets its z, between two lids.
    (x, y, z), (u, v, w) = o.unbind(1), d.unbind(1)
    upright = (shape == ELLIPSOID).float()[:, None]
    wz, ww = upright * z, upright * w
    A = (u * u).addcmul_(v, v).addcmul_(ww, w)
    B = (x * u).addcmul_(y, v).addcmul_(ww, z)
    C = (x * x).addcmul_(y, y).addcmul_(wz, z) - 1
    under = B * B - A * C
    root = under.clamp_min(0).sqrt_()
    inverse = A.reciprocal_()
    low, high = _slab(z, w)
    near = torch.maximum((B + root).mul_(inverse).neg_(), low)
    far = torch.minimum((root - B).mul_(inverse), high)
    return near, torch.minimum(far, under.mul_(torch.inf))


def _slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect rays with the faces -1 and 1 of an axis, the nearer one first."""
    inverse = (d + 1e-12).reciprocal_()  # keeps it free of 0 / 0
    middle = -o * inverse
    reach = inverse.abs_()
    return middle - reach, middle.add_(reach)


def _half_spaces(taper: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect tapered boxes: a slab along z and four leaning half-spaces n . q <= h."""
    (x, y, z), (u, v, w) = o.unbind(1), d.unbind(1)
    near, far = _slab(z, w)
    for start, along, sign, lean in (
        (x, u, 1, taper[:, 0]),
        (x, u, -1, taper[:, 1]),
        (y, v, 1, taper[:, 2]),
        (y, v, -1, taper[:, 2]),
    ):
        k = lean[:, None] / 2
        speed = (k * w).add_(along, alpha=sign)
        inverse = speed.reciprocal()
        t = (1 - sign * start - k * (1 + z)) * inverse
        # Where speed < 0 the ray enters, else it leaves.
        side = inverse.mul_(torch.inf)
        near = torch.maximum(near, torch.minimum(t, side.neg()))
        far = torch.minimum(far, torch.maximum(t, side.neg_()))
    return near, far


def normals(shape: Tensor, taper: Tensor, to_local: Tensor, q: Tensor) -> Tensor:
    """Return the outward unit normals at surface points.

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
    lean = torch.cat([taper, taper[2:], torch.zeros_like(taper[:2])])
    best = torch.full_like(up, -torch.inf)
    face = torch.zeros_like(up, dtype=torch.int64)
    for k in range(6):
        excess = ((1 - 2 * (k % 2)) * q[k // 2]).addcmul_(lean[k], up)
        face.masked_fill_(excess > best, k)
        best = torch.maximum(best, excess)
    local = take(_FACES.to(q.device), face)
    local[2] += lean.gather(0, face[None])[0]
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
