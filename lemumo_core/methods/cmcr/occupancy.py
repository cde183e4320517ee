"""Occupancy estimation: what lies at places on the rays of a sweep (after ALSO, arXiv 2212.05867).

Behind a return there is matter, between the sensor and the return there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lemumo_core.model.sparse.kernel_map import AXIS, pack

WITHIN_M = 0.1
"""Queries near a return are at most so far from it."""
RADIUS_M = 1.0
"""Returns so near a query are its neighbours."""
WIDTH = 128
"""Width of the head's hidden layers."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Q places of B sweeps, and their P pairs with neighbours.

    Attributes:
        occupied: bool (P,), of the query of each pair.
        intensity: float32 (P,), 0 to 1, of the return that the query was drawn from.
        near_return: bool (P,), whether the query is near it, and not far in free space.
        voxel: int64 (P,), of the neighbour.
        offset_m: float32 (P, 3), from the neighbour to the query.
    """

    occupied: Tensor
    intensity: Tensor
    near_return: Tensor
    voxel: Tensor
    offset_m: Tensor


@dataclass(frozen=True, eq=False)
class RayQueries:
    """Places on rays.

    Attributes:
        xyz: float32 (Q, 3), metres.
        sample: int64 (Q,), the sweep.
        kind: int64 (Q,): 0 behind a return, 1 before it, 2 anywhere before it.
        row: int64 (Q,), the return among the sweep's points.
    """

    xyz: Tensor
    sample: Tensor
    kind: Tensor
    row: Tensor


def draw_queries(
    points: Tensor, there: Tensor, count: int, generators: list[torch.Generator]
) -> RayQueries:
    """Draw places on the rays of returns; the sensor is at the origin.

    A third each (the first gets what is left over): up to 0.1 m behind the return, up to 0.1 m
    before it, and anywhere between it and the sensor.

    Args:
        points: float32 (B, M, >= 3).
        there: bool (B, M), which are returns.
        count: of queries a sweep, if it has as many returns.
        generators: on the CPU, one a sweep.
    """
    found = []
    for sample, generator in enumerate(generators):
        rows = there[sample].nonzero()[:, 0]
        taken = torch.randperm(len(rows), generator=generator)[:count].to(rows.device)
        rows = rows[taken]
        along = torch.rand(len(rows), generator=generator).to(points.device)[:, None]
        third = len(rows) // 3
        sizes = torch.tensor([len(rows) - 2 * third, third, third])
        kind = torch.repeat_interleave(torch.arange(3), sizes).to(points.device)
        p = points[sample, rows, :3]
        step = WITHIN_M * along * nn.functional.normalize(p, dim=1)
        group = kind[:, None]
        xyz = torch.where(group == 0, p + step, torch.where(group == 1, p - step, along * p))
        found.append(RayQueries(xyz, torch.full_like(rows, sample), kind, rows))
    return RayQueries(
        torch.cat([one.xyz for one in found]),
        torch.cat([one.sample for one in found]),
        torch.cat([one.kind for one in found]),
        torch.cat([one.row for one in found]),
    )


def radius_search(
    queries: Tensor,
    query_sample: Tensor,
    points: Tensor,
    point_sample: Tensor,
    most: int,
    radius_m: float = RADIUS_M,
) -> tuple[Tensor, Tensor]:
    """Find the nearest points of the same sweep within a radius.

    Points are sorted into cells of that size; the three cells of a column follow one another, so
    that nine binary searches find all candidates of a query.

    Args:
        queries: float (Q, 3).
        query_sample: int64 (Q,).
        points: float (N, 3).
        point_sample: int64 (N,).
        most: neighbours of a query.
        radius_m: the radius.

    Returns:
        Queries and points of the pairs, int64 (P,) each; by query, the nearest first.
    """
    keys, order = torch.sort(_cells(points, point_sample, radius_m))
    own = _cells(queries, query_sample, radius_m)
    steps = torch.arange(-1, 2, device=own.device)
    columns = ((steps[:, None] << 32) + (steps << 16)).flatten()
    query = own[:, None] + columns  # (Q, 9)
    first = torch.searchsorted(keys, query - 1)
    counts = (torch.searchsorted(keys, query + 2) - first).flatten()
    column = torch.repeat_interleave(counts)
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(column), device=own.device) - starts[column]
    candidate = order[first.flatten()[column] + within]
    of_query = column // len(columns)
    distance = (queries[of_query] - points[candidate]).norm(dim=1)
    near = (distance <= radius_m).nonzero()[:, 0]
    near = near[torch.argsort(distance[near], stable=True)]
    near = near[torch.argsort(of_query[near], stable=True)]
    counts = torch.bincount(of_query[near], minlength=len(queries))
    rank = torch.arange(len(near), device=own.device) - (counts.cumsum(0) - counts)[of_query[near]]
    near = near[rank < most]
    return of_query[near], candidate[near]


def with_neighbors(rays: RayQueries, points: Tensor, row_of_point: Tensor, most: int) -> Queries:
    """Pair queries with the returns around them; those without any drop out.

    Args:
        rays: the queries.
        points: float32 (B, M, 4) x, y, z and intensity 0 to 255.
        row_of_point: int64 (B, M), voxels of points, -1 for those that are no return.
        most: neighbours of a query.
    """
    sample, number = (row_of_point >= 0).nonzero(as_tuple=True)
    xyz = points[sample, number, :3]
    query, neighbor = radius_search(rays.xyz, rays.sample, xyz, sample, most)
    intensity = points[rays.sample, rays.row, 3] / 255
    return Queries(
        occupied=rays.kind[query] == 0,
        intensity=intensity[query],
        near_return=rays.kind[query] < 2,
        voxel=row_of_point[sample, number][neighbor],
        offset_m=rays.xyz[query] - xyz[neighbor],
    )


class OccupancyHead(nn.Module):
    """Tell occupancy and intensity of a place from one neighbour's feature and the offset.

    Args:
        width: of the features.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width + 3, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, 2),
        )

    def forward(self, features: Tensor, offset_m: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of occupancy and intensities, (P,) each.

        Args:
            features: (P, D), of the neighbours.
            offset_m: (P, 3), from the neighbours to the queries.
        """
        logits, intensity = self.layers(torch.cat([features, offset_m], 1)).unbind(1)
        return logits, intensity


def _cells(xyz: Tensor, sample: Tensor, size_m: float) -> Tensor:
    cells = (xyz / size_m).floor() + AXIS // 2
    inside = cells.clamp(2, AXIS - 4).to(torch.int64)
    return pack(torch.cat([sample[:, None], inside], 1))
