"""Whole sweeps of a batch: which part is taken, and how they are turned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch


def sample_generators(
    generator: torch.Generator, batch: int, rank: int, world: int
) -> list[torch.Generator]:
    """Return a generator for each sample of this rank, on the CPU.

    Every sample draws for itself, so that ranks together draw what one rank would, however much
    each draws.

    Args:
        generator: the same on every rank.
        batch: samples of this rank.
        rank: which share.
        world: number of shares.
    """
    seeds = torch.randint(1 << 62, (world * batch,), generator=generator)
    own = seeds[rank * batch : (rank + 1) * batch].tolist()
    return [torch.Generator().manual_seed(seed) for seed in own]


def sweep_points(batch: Batch, wedge_deg: float | None = None) -> Tensor:
    """Return the sweeps (B, M, 4) of samples, inf outside of a wedge around the camera's axis.

    Args:
        batch: with points.
        wedge_deg: width of the wedge; None takes all.

    Raises:
        ValueError: the batch carries no points.
    """
    if batch.points is None or batch.T_camera_lidar is None:
        raise ValueError("the batch carries no points: ask sample() for them")
    if wedge_deg is None:
        return batch.points
    there = batch.points[..., :3].isfinite().all(-1)
    xyz = torch.where(there[..., None], batch.points[..., :3], 0.0)
    camera = (xyz[..., None, :] * batch.T_camera_lidar[:, None, :3, :3]).sum(-1)
    inside = torch.atan2(camera[..., 0], camera[..., 2]).abs() <= math.radians(wedge_deg / 2)
    return torch.where((there & inside)[..., None], batch.points, torch.inf)


def turn_sweeps(points: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Turn sweeps about z by random angles, and mirror x and y at random.

    Args:
        points: (B, M, >= 3) x, y, z first.
        generators: on the CPU, one a sweep.
    """
    turns = torch.stack([_random_turn(one) for one in generators]).to(points.device)
    turned = (points[..., None, :3] * turns[:, None]).sum(-1)
    return torch.cat([turned, points[..., 3:]], -1)


def _random_turn(generator: torch.Generator) -> Tensor:
    """Draw a rotation about z, followed by flips of x and y, (3, 3)."""
    angle, *flips = torch.rand(3, generator=generator).tolist()
    c, s = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
    x, y = (-1.0 if flip < 0.5 else 1.0 for flip in flips)
    return torch.tensor([[x * c, -x * s, 0.0], [y * s, y * c, 0.0], [0.0, 0.0, 1.0]])
