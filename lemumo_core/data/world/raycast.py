"""First hits of rays with solids, batched: tiles of rays against the solids that overlap them.

Everything happens in the frames of views (x right, y down, z forward: optical frames). A ray is
(u, v, 1) times its depth, so the hit parameter *is* the depth along the view's axis. Each tile
meets its candidates from near to far and passes over those behind what it has already hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lemumo_core.data.world.solids import BOX, CYLINDER, ELLIPSOID, TAPERED

NEAR_M = 0.05
SHAPES = ((BOX,), (TAPERED,), (CYLINDER, ELLIPSOID))
"""Shapes that one intersection routine handles, big occluders first."""
CHUNK_RAYS = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Rays at a time: what stays in a core's cache, or keeps a GPU busy."""
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
_EDGES = torch.tensor(
    [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
)


@dataclass(frozen=True, eq=False)
class Solids:
    """P solids on a device, each in the frame of the view that looks at it, near ones first.

    Attributes:
        view: int64 (P,).
        shape: uint8 (P,).
        to_local: float32 (P, 3, 3), view frame to the solid's own axes in half sizes.
        origin: float32 (P, 3), the view's origin there.
        taper: float32 (P, 3).
        bounds: float32 (P, 4) u_min, v_min, u_max, v_max of the part with z > ``NEAR_M``.
        near: float32 (P,), least depth.
        source: int64 (P,), row of the array it was made from.
    """

    view: Tensor
    shape: Tensor
    to_local: Tensor
    origin: Tensor
    taper: Tensor
    bounds: Tensor
    near: Tensor
    source: Tensor

    def subset(self, rows: Tensor) -> Solids:
        """Only some of them, by mask or index."""
        return Solids(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Rays:
    """Tiles of rays.

    Attributes:
        directions: float32 (T, 3, R), (u, v, 1).
        view: int64 (T,), the view of each tile.
        bounds: float32 (T, 4) u_min, v_min, u_max, v_max of each tile.
    """

    directions: Tensor
    view: Tensor
    bounds: Tensor

    @staticmethod
    def of(uv: Tensor, view: Tensor) -> Rays:
        """Tiles of normalised coordinates uv (T, 2, R) of the views (T,)."""
        bounds = torch.cat([uv.amin(2), uv.amax(2)], dim=1)
        return Rays(torch.cat([uv, torch.ones_like(uv[:, :1])], dim=1), view, bounds)


def solids_in_views(
    solids: np.ndarray,
    view: np.ndarray,
    T_view_world: np.ndarray,
    device: torch.device | str,
    least_angle: float = 0.0,
) -> Solids:
    """Bring solids into the frames of their views and drop those that cannot be seen.

    Args:
        solids: ``SOLID`` (P,), world frame.
        view: (P,) which view looks at each.
        T_view_world: (V, 4, 4).
        device: where to.
        least_angle: solids that look smaller than this in both directions are dropped, radians.
    """
    at = torch.from_numpy(np.ascontiguousarray(view)).long().to(device)
    T = torch.from_numpy(T_view_world.astype(np.float32)).to(device)[at]

    def column(name: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(solids[name])).to(device)

    half = column("half")
    axes = T[:, :3, :3] @ column("axes")
    centre = (T[:, :3, :3] @ column("centre")[:, :, None])[..., 0] + T[:, :3, 3]
    to_local = axes.transpose(1, 2) / half[:, :, None]
    origin = -(to_local @ centre[:, :, None])[..., 0]
    corners = centre[:, None] + (_CORNERS.to(device) * half[:, None]) @ axes.transpose(1, 2)
    bounds, near = _bounds(corners)
    order = torch.argsort(near)
    large = ((bounds[:, 2:] - bounds[:, :2]) > least_angle).any(1)
    order = order[(torch.isfinite(near) & large)[order]]
    return Solids(
        at[order],
        column("shape")[order],
        to_local[order],
        origin[order],
        column("taper")[order],
        bounds[order],
        near[order],
        order,
    )


def _bounds(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (P, 4) of the projected boxes with corners (P, 8, 3), cut at ``NEAR_M``, and their
    least depth (P,), inf where nothing is in front."""
    edges = _EDGES.to(corners.device)
    a, b = corners[:, edges[:, 0]], corners[:, edges[:, 1]]
    crosses = (a[..., 2] < NEAR_M) != (b[..., 2] < NEAR_M)
    share = (NEAR_M - a[..., 2]) / torch.where(crosses, b[..., 2] - a[..., 2], 1.0)
    cut = a + share[..., None] * (b - a)
    points = torch.cat([corners, cut], dim=1)
    seen = torch.cat([corners[..., 2] >= NEAR_M, crosses], dim=1)
    uv = points[..., :2] / points[..., 2:].clamp_min(NEAR_M)
    low = torch.where(seen[..., None], uv, torch.inf).amin(1)
    high = torch.where(seen[..., None], uv, -torch.inf).amax(1)
    near = torch.where(seen, points[..., 2], torch.inf).amin(1)
    return torch.cat([low, high], dim=1), near


def cast(solids: Solids, rays: Rays) -> tuple[Tensor, Tensor]:
    """First hits.

    Returns:
        depth float32 (T, R), metres along the view's axis, inf = nothing; int64 (T, R) index into
        ``solids``, -1 = nothing.
    """
    tiles, _, count = rays.directions.shape
    depth = rays.directions.new_full((tiles, count), torch.inf)
    first = torch.full((tiles, count), -1, dtype=torch.int64, device=depth.device)
    low, high = rays.bounds[:, :2], rays.bounds[:, 2:]
    for shapes in SHAPES:
        for tile, candidate in _pairs(
            (low, high, rays.view), (solids.bounds[:, :2], solids.bounds[:, 2:]), solids, shapes, count
        ):
            ahead = solids.near[candidate] < depth.amax(1)[tile]
            tile, candidate = tile[ahead], candidate[ahead]
            d = torch.bmm(solids.to_local[candidate], rays.directions[tile])
            near, far = intersect(solids, candidate, solids.origin[candidate, :, None], d, shapes)
            near = torch.where((near < far) & (near > NEAR_M), near, torch.inf)
            depth.scatter_reduce_(0, tile[:, None].expand_as(near), near, "amin")
            pair, ray = ((near == depth[tile]) & (near < torch.inf)).nonzero(as_tuple=True)
            first[tile[pair], ray] = candidate[pair]
    return depth, first


def occluded(solids: Solids, points: Tensor, view: Tensor, towards: Tensor) -> Tensor:
    """Whether anything lies between points and a light at infinity.

    Args:
        solids: in the views' frames.
        points: float32 (T, 3, R), view frame; not finite = do not ask.
        view: int64 (T,).
        towards: float32 (V, 3), unit direction to the light in each view's frame.

    Returns:
        bool (T, R).
    """
    # In the plane across the light, solids and tiles are rectangles again.
    light = torch.linalg.svd(towards[:, None], full_matrices=True)[2]  # rows: light, then across
    light = light * torch.where((light[:, :1] * towards[:, None]).sum(2, keepdim=True) < 0, -1, 1)
    finite = torch.isfinite(points).all(1)
    flat = torch.bmm(light[view], points.nan_to_num(0, 0, 0))
    low = torch.where(finite[:, None], flat, torch.inf).amin(2)
    high = torch.where(finite[:, None], flat, -torch.inf).amax(2)

    axes = torch.linalg.inv(solids.to_local)
    centre = -(axes @ solids.origin[:, :, None])
    mid = (light[solids.view] @ centre)[..., 0]
    reach = (light[solids.view] @ axes).abs().sum(2)
    # Towards the light everything counts that reaches farther than the tile's nearest point.
    high[:, 0] = torch.inf
    blocked = torch.zeros_like(flat[:, 0])
    for shapes in SHAPES:
        for tile, candidate in _pairs(
            (low, high, view), (mid - reach, mid + reach), solids, shapes, points.shape[2]
        ):
            M = solids.to_local[candidate]
            o = torch.bmm(M, points[tile]) + solids.origin[candidate, :, None]
            d = M @ towards[solids.view[candidate], :, None]
            near, far = intersect(solids, candidate, o, d, shapes)
            blocked.index_add_(0, tile, ((near < far) & (far > 0.02)).float())
    return (blocked > 0) & finite


def _pairs(
    tiles: tuple[Tensor, Tensor, Tensor],
    bounds: tuple[Tensor, Tensor],
    solids: Solids,
    shapes: tuple[int, ...],
    rays: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of (tile, solid) pairs of one view whose bounds overlap, near solids first.

    Args:
        tiles: lower bounds (T, D), upper bounds (T, D), views (T,).
        bounds: lower and upper bounds (P, D) of the solids.
        solids, shapes: only solids of these shapes.
        rays: in a tile; sets the size of a chunk.
    """
    low, high, view = tiles
    kind = _of_shape(solids.shape, shapes)
    found = []
    for v in torch.unique(view).tolist():
        rows = (view == v).nonzero()[:, 0]
        mine = (kind & (solids.view == v)).nonzero()[:, 0]
        over = torch.ones(len(mine), len(rows), dtype=torch.bool, device=low.device)
        for k in range(low.shape[1]):
            over &= low[None, rows, k] <= bounds[1][mine, k, None]
            over &= high[None, rows, k] >= bounds[0][mine, k, None]
        solid, tile = over.nonzero(as_tuple=True)
        found.append((rows[tile], mine[solid]))
    tile, solid = (torch.cat(part) for part in zip(*found, strict=True))
    size = max(1, CHUNK_RAYS[low.device.type] // rays)
    yield from zip(tile.split(size), solid.split(size), strict=True)


def _of_shape(shape: Tensor, shapes: tuple[int, ...]) -> Tensor:
    found = shape == shapes[0]
    for other in shapes[1:]:
        found = found | (shape == other)
    return found


def intersect(
    solids: Solids, which: Tensor, o: Tensor, d: Tensor, shapes: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave solids, all of them of the given shapes.

    Args:
        solids, which: the solids, (n,) indices.
        o, d: origins and directions in the solids' own axes, (n, 3, R) or (n, 3, 1).

    Returns:
        near, far (n, R); near < far is a hit.
    """
    if shapes == (TAPERED,):
        return _planes(o, d, solids.taper[which])
    inverse = (d + 1e-12).reciprocal()  # keeps slabs free of 0 / 0
    a, b = (-1 - o) * inverse, (1 - o) * inverse
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    if shapes == (BOX,):
        near = torch.maximum(torch.maximum(low[:, 0], low[:, 1]), low[:, 2])
        return near, torch.minimum(torch.minimum(high[:, 0], high[:, 1]), high[:, 2])
    weight = torch.ones(1, 3, 1, device=o.device).repeat(len(which), 1, 1)
    weight[:, 2, 0] = (solids.shape[which] == ELLIPSOID).float()
    A = (weight * d * d).sum(1)
    B = (weight * o * d).sum(1)
    C = (weight * o * o).sum(1) - 1
    under = B * B - A * C
    root = under.clamp_min(0).sqrt()
    near = torch.maximum((-B - root) / A, low[:, 2])
    far = torch.minimum((-B + root) / A, high[:, 2])
    return near, torch.where(under > 0, far, -torch.inf)


def _planes(o: Tensor, d: Tensor, taper: Tensor) -> tuple[Tensor, Tensor]:
    """Tapered boxes as six half-spaces n . q <= h: x, -x, y, -y lean by taper, z and -z do not."""
    near = far = None
    for axis, sign, lean in (
        (0, 1, taper[:, 0]),
        (0, -1, taper[:, 1]),
        (1, 1, taper[:, 2]),
        (1, -1, taper[:, 2]),
        (2, 1, None),
        (2, -1, None),
    ):
        along, start = sign * d[:, axis], sign * o[:, axis]
        room = 1 - start
        if lean is not None:
            k = lean[:, None] / 2
            along = along + k * d[:, 2]
            room = room - k * (1 + o[:, 2])
        t = room / along
        enters = along < 0
        entry, leave = t.masked_fill(~enters, -torch.inf), t.masked_fill(enters, torch.inf)
        near = entry if near is None else torch.maximum(near, entry)
        far = leave if far is None else torch.minimum(far, leave)
    assert near is not None and far is not None
    return near, far


def normals(solids: Solids, which: Tensor, points: Tensor) -> Tensor:
    """Outward unit normals (n, 3), view frame, at surface points (n, 3) of solids (n,)."""
    M = solids.to_local[which]
    q = (M @ points[:, :, None])[..., 0] + solids.origin[which]
    shape = solids.shape[which]
    round_ = shape >= CYLINDER
    # Flat faces: the half-space that the point is nearest to leaving.
    taper = solids.taper[which] / 2
    excess = torch.stack(
        [
            q[:, 0] + taper[:, 0] * (1 + q[:, 2]),
            -q[:, 0] + taper[:, 1] * (1 + q[:, 2]),
            q[:, 1] + taper[:, 2] * (1 + q[:, 2]),
            -q[:, 1] + taper[:, 2] * (1 + q[:, 2]),
            q[:, 2],
            -q[:, 2],
        ],
        dim=1,
    )
    face = excess.argmax(1)
    sign = 1.0 - 2.0 * (face % 2)
    local = torch.zeros_like(q).scatter_(1, (face // 2)[:, None], sign[:, None])
    lean = torch.cat([taper[:, :2], taper[:, 2:], taper[:, 2:]], dim=1)
    lean = lean.gather(1, face.clamp_max(3)[:, None])[:, 0]
    local[:, 2] += torch.where(face < 4, lean, 0.0)
    side = torch.cat([q[:, :2], torch.where(shape == ELLIPSOID, q[:, 2], 0.0)[:, None]], dim=1)
    capped = (shape == CYLINDER) & (q[:, 2].abs() > q[:, :2].norm(dim=1))
    local = torch.where((round_ & ~capped)[:, None], side, local)
    cap = torch.zeros_like(q)
    cap[:, 2] = q[:, 2].sign()
    local = torch.where(capped[:, None], cap, local)
    return torch.nn.functional.normalize((M.transpose(1, 2) @ local[:, :, None])[..., 0], dim=1)
