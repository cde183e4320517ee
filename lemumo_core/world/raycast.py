"""First hits of rays with solids: tiles of rays against the solids that overlap them, batched.

Everything happens in the frames of views (x right, y down, z forward: optical frames). A ray is
(u, v, 1) times its depth, so the hit parameter *is* the depth along the view's axis. Each tile
meets its candidates from near to far and passes over those behind what it has already hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from lemumo_core.world.columns import indices
from lemumo_core.world.intersection import SHAPES, intersect

NEAR_M = 0.05
CHUNK_RAYS = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Rays at a time: what stays in a core's cache, or keeps a GPU busy."""
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
_EDGES = torch.tensor(
    [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
)


@dataclass(frozen=True, eq=False)
class Solids:
    """P solids on a device, each in the frame of the view that sees it, near ones first.

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
        """Select some of them, by mask or index."""
        return Solids(*(getattr(self, f.name)[rows] for f in fields(self)))

    def of_view(self, view: Tensor) -> Solids:
        """Assign the same solids to other views (P,) that share their frame."""
        return replace(self, view=view)


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
        """Make tiles of normalised coordinates uv (T, 2, R) of the views (T,)."""
        bounds = torch.cat([uv.amin(2), uv.amax(2)], dim=1)
        return Rays(torch.cat([uv, torch.ones_like(uv[:, :1])], dim=1), view, bounds)

    def repeated(self, views: int) -> Rays:
        """Repeat the tiles (of view 0) for several views."""
        if views == 1:
            return self
        view = torch.arange(views, device=self.view.device).repeat_interleave(len(self.view))
        return Rays(self.directions.repeat(views, 1, 1), view, self.bounds.repeat(views, 1))


def solids_in_views(
    solids: np.ndarray,
    view: np.ndarray,
    T_view_world: np.ndarray,
    device: torch.device | str,
    least_angle: float = 0.0,
) -> Solids:
    """Move solids into the frames of their views and drop those that cannot be seen.

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
    center = (T[:, :3, :3] @ column("center")[:, :, None])[..., 0] + T[:, :3, 3]
    to_local = axes.transpose(1, 2) / half[:, :, None]
    origin = -(to_local @ center[:, :, None])[..., 0]
    corners = center[:, None] + (_CORNERS.to(device) * half[:, None]) @ axes.transpose(1, 2)
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
    """Return bounds (P, 4) of the projected boxes with corners (P, 8, 3), cut at ``NEAR_M``.

    Also returns their least depth (P,), inf where nothing is in front.
    """
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
    """Find the first hits.

    Returns:
        depth float32 (T, R), metres along the view's axis, inf = nothing; int64 (T, R) index into
        ``solids``, -1 = nothing.
    """
    tiles, _, count = rays.directions.shape
    # Depth and solid in one number, the depth's bits on top: positive floats sort as integers do.
    nothing = torch.full((), torch.inf).view(torch.int32).long() << 32
    best = nothing.to(rays.directions.device).repeat(tiles, count)
    low, high = rays.bounds[:, :2], rays.bounds[:, 2:]
    bounds = solids.bounds[:, :2], solids.bounds[:, 2:]
    for shapes in SHAPES:
        for tile, candidate in _pairs(shapes, solids, bounds, (low, high, rays.view), count):
            farthest = (best.amax(1) >> 32).int().view(torch.float32)
            ahead = solids.near[candidate] < farthest[tile]
            tile, candidate = tile[ahead], candidate[ahead]
            shape, taper, o, M = (
                column.index_select(0, candidate)
                for column in (solids.shape, solids.taper, solids.origin, solids.to_local)
            )
            d = torch.bmm(M, rays.directions.index_select(0, tile))
            near, far = intersect(shapes, shape, taper, o[:, :, None], d)
            # What misses, or begins behind the eye, is infinitely far.
            missed = torch.maximum(far.sub_(near).neg_().add_(1e-30), NEAR_M - near)
            near = torch.maximum(near, missed.mul_(torch.inf)).nan_to_num_(torch.inf, torch.inf)
            key = near.view(torch.int32).long().bitwise_left_shift_(32).add_(candidate[:, None])
            best.scatter_reduce_(0, tile[:, None].expand_as(key), key, "amin")
    depth = (best >> 32).int().view(torch.float32)
    first = best & 0xFFFFFFFF
    return depth, first.masked_fill_(depth == torch.inf, -1)


def occluded(solids: Solids, points: Tensor, view: Tensor, towards: Tensor) -> Tensor:
    """Return whether anything lies between points and a light at infinity.

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
    center = -(axes @ solids.origin[:, :, None])
    mid = (light[solids.view] @ center)[..., 0]
    reach = (light[solids.view] @ axes).abs().sum(2)
    # Towards the light everything counts that reaches farther than the tile's nearest point.
    high[:, 0] = torch.inf
    blocked = torch.zeros_like(flat[:, 0])
    for shapes in SHAPES:
        for tile, candidate in _pairs(
            shapes, solids, (mid - reach, mid + reach), (low, high, view), points.shape[2]
        ):
            M = solids.to_local.index_select(0, candidate)
            o = torch.bmm(M, points.index_select(0, tile)) + solids.origin[candidate, :, None]
            d = M @ towards[solids.view[candidate], :, None]
            near, far = intersect(shapes, solids.shape[candidate], solids.taper[candidate], o, d)
            blocked.index_add_(0, tile, ((near < far) & (far > 0.02)).float())
    return (blocked > 0) & finite


def _pairs(
    shapes: tuple[int, ...],
    solids: Solids,
    bounds: tuple[Tensor, Tensor],
    tiles: tuple[Tensor, Tensor, Tensor],
    rays: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks of (tile, solid) pairs of one view whose bounds overlap, near solids first.

    Args:
        shapes: only solids of these.
        solids: all of them.
        bounds: their lower and upper bounds, (P, D) each.
        tiles: lower bounds (T, D), upper bounds (T, D), views (T,).
        rays: in a tile; sets the size of a chunk.
    """
    low, high, view = tiles
    rows = indices(torch.as_tensor(sum(solids.shape == shape for shape in shapes)))
    over = solids.view[rows, None] == view
    for k in range(low.shape[1]):
        over &= low[:, k] <= bounds[1][rows, k, None]
        over &= high[:, k] >= bounds[0][rows, k, None]
    at = indices(over)
    tile, candidate = at % len(view), rows[at // len(view)]
    size = max(1, CHUNK_RAYS[low.device.type] // rays)
    yield from zip(tile.split(size), candidate.split(size), strict=True)
