"""Surfaces that rays of sensors meet in the world, between geometry and appearance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.se3 import inverse
from lemumo_core.world import ground
from lemumo_core.world.columns import indices, put, take
from lemumo_core.world.ground import GroundPoints
from lemumo_core.world.intersection import normals
from lemumo_core.world.raycast import Rays, Solids, cast, solids_in_views
from lemumo_core.world.street import Drive, Scene

HORIZON_M = 1000.0
"""Where the ground ends."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Hits of the M = V * T * R rays of V views; vectors are (3, M), world frame.

    Attributes:
        depth_m: float32 (M,), along the view's axis, inf = sky.
        point: float32, metres.
        normal: float32, unit length; upwards on the ground and in the sky.
        ray: float32, unit length.
        hit: int64 (n,), which rays met a solid.
        ground: int64 (g,), which rays met the ground; the others met nothing.
        ground_points: where on the street these met it, (g,).
        row: int64 (n,), the row of ``scene_solids`` that each of ``hit`` met.
        label: uint8 (M,), segmentation ids, ``UNLABELLED`` = sky.
        owner: int32 (M,), index of the object, -1 = none.
        solids: the solids in the views' frames.
        scene_solids: ``SOLID``, those of all views' scenes one after the other.
        T_world_view: float32 (V, 4, 4).
        rays: of one view.
    """

    depth_m: Tensor
    point: Tensor
    normal: Tensor
    ray: Tensor
    hit: Tensor
    ground: Tensor
    ground_points: GroundPoints
    row: Tensor
    label: Tensor
    owner: Tensor
    solids: Solids
    scene_solids: np.ndarray
    T_world_view: Tensor
    rays: Rays

    @property
    def views(self) -> int:
        """Number of views, V."""
        return len(self.T_world_view)

    def of_solids(self, name: str) -> Tensor:
        """Return one field of ``scene_solids`` at the n hits: (n,), or (3, n) of vectors."""
        return _field(self.scene_solids, name, self.row)


def cast_views(
    drive: Drive,
    scenes: Sequence[Scene],
    T_world_view: np.ndarray,
    rays: Rays,
    least_angle: float = 0.0,
) -> Surface:
    """Cast the same rays from V views.

    Args:
        drive: the street.
        scenes: V, one for each view (the same one where the time is the same).
        T_world_view: (V, 4, 4) poses of the views, optical axes (z forward).
        rays: T tiles, of one view.
        least_angle: solids that look smaller than this are not drawn, radians.
    """
    device, views = rays.directions.device, len(T_world_view)
    everything = np.concatenate([scene.solids for scene in scenes])
    of_view = np.repeat(np.arange(views), [len(scene.solids) for scene in scenes])
    T_view_world = np.stack([inverse(T) for T in T_world_view])
    solids = solids_in_views(everything, of_view, T_view_world, device, least_angle)
    depth, first = cast(solids, rays.repeated(views))
    depth, first = depth.flatten(), first.flatten()

    T = torch.from_numpy(T_world_view.astype(np.float32)).to(device)
    directions = rays.directions.transpose(0, 1).reshape(3, -1)
    towards = (T[:, :3, :3] @ directions).transpose(0, 1)  # (3, V, N)
    down = _to_ground(T[:, 2, 3, None], towards[2]).flatten()
    hit = indices((first >= 0) & (depth < down))
    depth = torch.minimum(depth, down)
    reach = torch.where(torch.isinf(depth), 0.0, depth).view(1, views, -1)
    point = (towards * reach + T[:, :3, 3].T[:, :, None]).flatten(1)

    which = take(first, hit)
    to_local = _columns(solids.to_local.flatten(1), which)
    here = take(directions.repeat(1, views), hit) * take(depth, hit)
    q = _columns(solids.origin, which)
    for axis in range(3):
        q += to_local[axis::3] * here[axis]
    facing = normals(solids.shape[which], _columns(solids.taper, which), to_local, q)
    if views == 1:
        facing = T[0, :3, :3] @ facing
    else:
        view = hit // (len(rays.view) * rays.directions.shape[2])
        R = take(T[:, :3, :3].reshape(-1, 9).T.contiguous(), view).view(3, 3, -1)
        facing = R[:, 0] * facing[0] + R[:, 1] * facing[1] + R[:, 2] * facing[2]
    normal = torch.zeros_like(point)
    normal[2] = 1.0
    put(normal, hit, facing)

    row = solids.source[which]
    label = torch.full_like(first, UNLABELLED, dtype=torch.uint8)
    owner = torch.full_like(first, -1, dtype=torch.int32)
    put(label, hit, _field(everything, "label", row))
    put(owner, hit, _field(everything, "owner", row))
    on_ground = torch.isfinite(depth)
    on_ground[hit] = False
    flat = indices(on_ground)
    points = ground.points_on_street(drive, *take(point[:2], flat))
    put(label, flat, ground.labels(drive, points))

    ray = (towards * towards.square().sum(0).rsqrt()).flatten(1)
    return Surface(
        depth, point, normal, ray, hit, flat, points, row, label, owner, solids, everything, T, rays
    )


def depth_without(surface: Surface, removed: Tensor) -> Tensor:
    """Return the depth (M,) that the same rays meet when some solids are gone, inf = sky.

    Args:
        surface: what they meet when all are there.
        removed: bool, one for each of its ``scene_solids``.
    """
    if not removed.any():
        return surface.depth_m
    rays = surface.rays.repeated(surface.views)
    depth = surface.depth_m.view(len(rays.view), -1).clone()
    tile = torch.unique(surface.hit[removed[surface.row]] // depth.shape[1])
    rays = Rays(rays.directions[tile], rays.view[tile], rays.bounds[tile])
    behind, _ = cast(surface.solids.subset(~removed[surface.solids.source]), rays)
    T = surface.T_world_view[rays.view]
    upwards = (T[:, 2:3, :3] @ rays.directions)[:, 0]
    depth[tile] = torch.minimum(behind, _to_ground(T[:, 2, 3, None], upwards))
    return depth.flatten()


def _to_ground(height: Tensor, upwards: Tensor) -> Tensor:
    """Return the depth at which rays meet the ground: the plane z = 0 up to the horizon.

    Args:
        height: of their origins, metres.
        upwards: z of their directions in the world, for a depth of one metre.
    """
    depth = -height / upwards
    return torch.where((depth > 0) & (depth < HORIZON_M), depth, torch.inf)


def _columns(rows: Tensor, which: Tensor) -> Tensor:
    """Return some rows of a table (P, C), as (C, n)."""
    return take(rows.T.contiguous(), which)


def _field(solids: np.ndarray, name: str, row: Tensor) -> Tensor:
    column = torch.from_numpy(np.ascontiguousarray(solids[name].T))
    return take(column.to(row.device), row)
