"""Places on rays and their neighbours; what the head can learn of them."""

from __future__ import annotations

import torch

from lemumo_core.losses.occupancy import occupancy_loss
from lemumo_core.methods.cmcr.occupancy import (
    OccupancyHead,
    draw_queries,
    radius_search,
    with_neighbors,
)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def cloud(samples: int = 2, points: int = 3000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    xyz = (torch.rand(samples, points, 3, generator=generator) - 0.5) * 12
    return torch.cat([xyz, 255 * torch.rand(samples, points, 1, generator=generator)], -1)


def test_queries_lie_on_their_rays() -> None:
    points = cloud()
    there = torch.ones(2, 3000, dtype=torch.bool)
    there[0, :1000] = False
    rays = draw_queries(points, there, 2048, generators(2))
    for sample, total in ((0, 2000), (1, 2048)):
        own = rays.sample == sample
        assert own.sum() == total
        assert torch.bincount(rays.kind[own]).tolist() == (
            [684, 682, 682] if total == 2048 else [668, 666, 666]
        )
        assert there[sample, rays.row[own]].all() and len(rays.row[own].unique()) == total
    p = points[rays.sample, rays.row, :3]
    assert torch.linalg.cross(p, rays.xyz).norm(dim=1).max() < 1e-3  # collinear
    beyond = (rays.xyz * p).sum(1) / p.norm(dim=1) - p.norm(dim=1)
    behind, before, free = (beyond[rays.kind == k] for k in range(3))
    assert behind.min() + 1e-5 >= 0 and behind.max() <= 0.1 + 1e-5
    assert before.min() >= -0.1 - 1e-5 and before.max() <= 1e-5
    assert free.max() <= 0 and ((rays.xyz * p).sum(1) >= 0).all()


def test_turned_sweeps_have_turned_queries() -> None:
    points = cloud(1, 50)
    turn = torch.tensor([[0.0, -1, 0], [-1, 0, 0], [0, 0, 1]])  # a quarter turn and a flip
    turned = torch.cat([points[..., :3] @ turn.T, points[..., 3:]], -1)
    there = torch.ones(1, 50, dtype=torch.bool)
    one, other = (draw_queries(x, there, 40, generators(1)) for x in (points, turned))
    torch.testing.assert_close(one.xyz @ turn.T, other.xyz)
    assert torch.equal(one.kind, other.kind)


def test_radius_search_is_brute_force() -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(400, 3, generator=generator) * 6 - 3
    queries = torch.rand(80, 3, generator=generator) * 7 - 3.5
    of_point, of_query = torch.arange(400) % 2, torch.arange(80) % 2
    distance = torch.cdist(queries, points)
    distance[of_query[:, None] != of_point] = torch.inf
    for most in (1000, 5):
        query, point = radius_search(queries, of_query, points, of_point, most)
        found = set(zip(query.tolist(), point.tolist(), strict=True))
        expected = set()
        for q in range(80):
            near = distance[q].argsort()
            near = near[distance[q][near] <= 1][:most]
            expected |= {(q, p) for p in near.tolist()}
        assert found == expected and len(found) == len(query) > 80
    nothing, _ = radius_search(queries + 100, of_query, points, of_point, 5)
    assert len(nothing) == 0


def test_the_head_learns_a_plane_and_a_sphere() -> None:
    """Ground below the sensor and a ball before it, whose normals are the features."""
    torch.manual_seed(0)
    azimuth, down = torch.rand(2000) * 6.28, torch.rand(2000) * 0.7 + 0.25
    ray = torch.stack([azimuth.cos() * down.cos(), azimuth.sin() * down.cos(), -down.sin()], 1)
    ground = ray * (1.5 / -ray[:, 2:])
    normal = torch.tensor([0.0, 0.0, 1.0]).expand(2000, 3)
    center = torch.tensor([4.0, 0.0, 0.0])
    toward = (ray @ center)[:, None]
    root = toward.square() - 16 + 1
    ball = ray * (toward - root.clamp(min=0).sqrt())
    hit = (root > 0) & (toward > 0) & (ball.norm(dim=1) < ground.norm(dim=1))[:, None]
    xyz, normals = torch.where(hit, ball, ground), torch.where(hit, ball - center, normal)
    points = torch.cat([xyz, torch.zeros(2000, 1)], 1)[None]
    row = torch.arange(2000)[None]
    rays = draw_queries(points, row >= 0, 2000, generators(1))
    pairs = with_neighbors(rays, points, row, 1)
    head = OccupancyHead(3)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        logits, _ = head(normals[pairs.voxel], pairs.offset_m)
        loss = occupancy_loss(logits, pairs.occupied)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((logits > 0) == pairs.occupied).float().mean() > 0.95
