"""Spinning LiDARs: beam patterns, range noise, dropouts and intensity."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lemumo_core.geometry.se3 import inverse, make_T, transform
from lemumo_core.world.columns import indices, put, take
from lemumo_core.world.raycast import Rays
from lemumo_core.world.solids import FOLIAGE, GLASS, RETRO
from lemumo_core.world.street import Drive, Scene
from lemumo_core.world.surface import Surface, cast_views

SECTORS = 4
"""A turn is cast as four views of 90 degrees, or as more narrow ones when it moves meanwhile."""
MOVING_SECTORS = 8
TURN_S = 0.1
TILE = (8, 32)
"""Beams and azimuths."""
LEAST_RANGE_M = 0.9
RANGE_NOISE_M = 0.02
FOLIAGE_M = 0.25
"""Mean depth of returns in foliage behind its outermost leaves, on a varied street."""
FOLIAGE_GAPS = 0.3
"""Share of the beams that pass between leaves, there, to what is behind the foliage."""
LOST = 0.02
"""Share of returns lost for no visible reason; more are lost far off, on dark, slanted and glassy
surfaces and in fog."""


@dataclass(frozen=True)
class Beams:
    """Beam pattern of a sensor.

    Attributes:
        elevations: degrees, from the top.
        azimuths: shots a turn, a multiple of 256.
        reach_m: farthest return.
    """

    elevations: tuple[float, ...]
    azimuths: int
    reach_m: float


PATTERNS = {
    16: Beams(tuple(np.linspace(15, -15, 16)), 1792, 100.0),  # VLP-16, 10 Hz
    32: Beams(tuple(10.67 - 4 / 3 * np.arange(32)), 1024, 80.0),  # HDL-32E, 10 Hz: 1084
    64: Beams(
        (*(2 - np.arange(32) / 3), *(-8.87 - np.arange(32) / 2)), 2048, 120.0
    ),  # HDL-64E: two blocks
    128: Beams(tuple(np.linspace(15, -25, 128)), 1792, 150.0),  # as Alpha Prime, evenly spaced
}
"""Number of beams to the pattern of a real sensor, shots a turn rounded for the tiles."""


class Sweep(NamedTuple):
    """Points and labels of one turn.

    points: float32 (N, 5) x, y, z (x forward, y left, z up), metres, intensity 0 to 255, and the
    ring: the number of the beam, 0 for the highest.
    labels: uint8 (N,), segmentation ids.
    """

    points: np.ndarray
    labels: np.ndarray


def sweeps(
    drive: Drive,
    beams: int,
    T_ego_lidar: np.ndarray,
    seconds: Sequence[float],
    seeds: Sequence[Sequence[int]],
    device: torch.device,
    moving: bool = False,
) -> list[Sweep]:
    """Simulate turns of a LiDAR.

    Args:
        drive: the street.
        beams: a key of ``PATTERNS``.
        T_ego_lidar: (4, 4).
        seconds: times of the drive at which the turns begin, with the sensor looking backwards.
        seeds: of the noise and the dropouts of each.
        device: where to cast.
        moving: the vehicle moves during a turn, and points are left in the sensor's frame of
            their own instant, as raw LiDARs do; else the world stands still.
    """
    pattern = PATTERNS[beams]
    sectors = MOVING_SECTORS if moving else SECTORS
    rays = _sector(beams, sectors, device)
    # Clockwise from the rear, as they spin.
    part = np.arange(sectors) / sectors
    T_lidar_view = [_facing(np.pi - 2 * np.pi * (p + 0.5 / sectors)) for p in part]
    times = [start + TURN_S * moving * p for start in seconds for p in part]
    T_world_view = np.stack(
        [
            drive.T_world_ego(time) @ T_ego_lidar @ T_lidar_view[k % sectors]
            for k, time in enumerate(times)
        ]
    )
    moments = {time: _scene_for_lidar(drive, time) for time in dict.fromkeys(times)}
    scenes = [
        _within(moments[time], T, np.pi / sectors, pattern.reach_m)
        for time, T in zip(times, T_world_view, strict=True)
    ]
    met = cast_views(drive, scenes, T_world_view, rays)
    stretch = rays.directions.norm(dim=1).flatten()  # metres of range a metre of depth
    shots = len(stretch) * sectors
    rngs = [np.random.default_rng(seed) for seed in seeds]

    def drawn(draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([draw(rng) for rng in rngs])).to(device)

    noise_m = drawn(lambda rng: rng.normal(0, RANGE_NOISE_M, shots)).float()
    uniform = drawn(lambda rng: rng.random(shots))
    depth_m, label, reflected = met.depth_m, met.label, _reflected(met)
    if drive.varied:
        leaves = torch.zeros_like(depth_m, dtype=torch.bool)
        leaves[met.hit] = met.of_solids("material") == FOLIAGE
        deep_m = drawn(lambda rng: rng.exponential(FOLIAGE_M, shots)).float()
        bare = cast_views(drive, [_without(scene, FOLIAGE) for scene in scenes], T_world_view, rays)
        passed = leaves & (drawn(lambda rng: rng.random(shots)) < FOLIAGE_GAPS)
        noise_m += torch.where(leaves & ~passed, deep_m, 0.0)
        depth_m = torch.where(passed, bare.depth_m, depth_m)
        label = torch.where(passed, bare.label, label)
        reflected = torch.where(passed, _reflected(bare), reflected)
    range_m = (depth_m.view(-1, len(stretch)) * stretch).flatten()
    chance = (1 - LOST) * torch.exp(range_m * (-1 / drive.weather.visibility_m))
    chance *= (reflected * 12 * (pattern.reach_m / range_m) ** 2).clamp_max(1)
    seen = (range_m > LEAST_RANGE_M) & (range_m < pattern.reach_m)
    seen &= uniform < chance
    at = indices(seen)
    shift = noise_m[at] / range_m[at]
    R = torch.from_numpy(np.stack(T_lidar_view)[:, :3, :3].astype(np.float32)).to(device)
    directions = R @ rays.directions.transpose(0, 1).reshape(3, -1)  # of one turn
    shot = take(directions.transpose(0, 1).flatten(1), at % shots)
    points = shot * (take(depth_m, at) * (1 + shift))
    intensity = (255 * take(reflected, at)).clamp(0, 255).round()
    ring = _rings(beams, sectors, device)[at % len(stretch)]
    table = torch.cat([points, intensity[None], ring[None]]).T.contiguous().cpu().numpy()
    found = label[at].cpu().numpy()
    cuts = np.searchsorted(at.cpu().numpy(), shots * np.arange(1, len(seconds)))
    return [Sweep(*both) for both in zip(np.split(table, cuts), np.split(found, cuts), strict=True)]


def _reflected(met: Surface) -> Tensor:
    """Return the share of light that comes back (M,): albedo times cosine.

    Retroreflectors return more than 1.
    """
    cosine = -(met.ray * met.normal).sum(0).clamp_max(0)
    albedo = torch.full_like(cosine, 0.2)  # of the ground, in the infrared
    material = met.of_solids("material")
    color = 0.1 + 0.8 * met.of_solids("color").mean(0)
    color = torch.where(material == GLASS, 0.02, color)
    put(albedo, met.hit, torch.where(material == RETRO, 20.0, color))
    return albedo * cosine


def _facing(turn: float) -> np.ndarray:
    """Return T_lidar_view of an optical frame that looks along azimuth ``turn``."""
    c, s = np.cos(turn), np.sin(turn)
    return make_T(np.array([[s, 0.0, c], [-c, 0.0, s], [0.0, -1.0, 0.0]]), np.zeros(3))


@functools.lru_cache(maxsize=8)
def _sector(beams: int, sectors: int, device: torch.device) -> Rays:
    """Return the rays of one sector, in tiles."""
    pattern = PATTERNS[beams]
    count = pattern.azimuths // sectors
    azimuth = ((np.arange(count) + 0.5) / count - 0.5) * 2 * np.pi / sectors  # to the right
    elevation = np.deg2rad(pattern.elevations)[:, None]
    u = np.broadcast_to(np.tan(azimuth), (len(elevation), count))
    v = -np.tan(elevation) / np.cos(azimuth)
    uv = torch.from_numpy(np.stack([u, v]).astype(np.float32))
    tiles = uv.unflatten(2, (-1, TILE[1])).unflatten(1, (-1, TILE[0]))
    tiles = tiles.permute(1, 3, 0, 2, 4).reshape(-1, 2, TILE[0] * TILE[1])
    return Rays.of(tiles.to(device), torch.zeros(len(tiles), dtype=torch.int64, device=device))


def _rings(beams: int, sectors: int, device: torch.device) -> Tensor:
    """Return the beam of each shot of one sector, in the order of its tiles, float32."""
    count = PATTERNS[beams].azimuths // sectors
    ring = torch.arange(beams, dtype=torch.float32, device=device)[:, None].expand(-1, count)
    tiles = ring.unflatten(1, (-1, TILE[1])).unflatten(0, (-1, TILE[0]))
    return tiles.transpose(1, 2).flatten()


def _scene_for_lidar(drive: Drive, time: float) -> Scene:
    """Return the scene without the glass that the drive's LiDAR sees through."""
    scene = drive.scene(time)
    return _without(scene, GLASS) if scene.clear_glass else scene


def _without(scene: Scene, material: int) -> Scene:
    return replace(scene, solids=scene.solids[scene.solids["material"] != material])


def _within(scene: Scene, T_world_view: np.ndarray, half_turn: float, reach_m: float) -> Scene:
    """Select the part of a scene that a sector can meet, by the spheres around its solids."""
    center = transform(inverse(T_world_view), scene.solids["center"])
    size = np.linalg.norm(scene.solids["half"], axis=1)
    aside = np.abs(center[:, 0]) * np.cos(half_turn) - center[:, 2] * np.sin(half_turn)
    met = (aside < size) & (center[:, 2] > -size) & (center[:, 2] - size < reach_m)
    return replace(scene, solids=scene.solids[met])
