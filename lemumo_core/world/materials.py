"""Optical properties of materials: albedo, windows, gloss and light sources."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.world.columns import indices, put, take
from lemumo_core.world.solids import (
    BRICK,
    FACADE,
    FOLIAGE,
    GLASS,
    LAMP,
    PAINT,
    PLAIN,
)
from lemumo_core.world.surface import Surface
from lemumo_core.world.texture import noise
from lemumo_core.world.weather import Sky

WINDOW_M, STOREY_M = 2.3, 3.1
LIT_WINDOW = (0.9, 0.62, 0.3)


def appearance(surface: Surface, night: bool, sky: Sky, facing: Tensor) -> tuple[Tensor, Tensor]:
    """Return albedo, and emitted plus mirrored light, of what the rays ``surface.hit`` met.

    Args:
        surface: what rays meet.
        night: whether windows and lamps are lit.
        sky: what glass and paint mirror.
        facing: (M,) cosine to the sun, 0 in the shadow.

    Returns:
        Linear RGB float32 (3, n) each.
    """
    hit = surface.hit
    albedo, material = surface.of_solids("color"), surface.of_solids("material")
    emitted = torch.zeros_like(albedo)
    point, normal = take(surface.point, hit), take(surface.normal, hit)
    # Coordinates on a surface: along it and up it, or x and y where it lies flat.
    flat = normal[2].abs() > 0.7
    along = torch.where(flat, point[0], point[1] * normal[0] - point[0] * normal[1])
    up = torch.where(flat, point[1], point[2])

    at = indices((material == FACADE) | (material == BRICK) | (material == PLAIN))
    a, b = take(along, at), take(up, at)
    dirt = 0.55 + 0.5 * noise(a * 6, b * 6) + 0.4 * noise(a * 0.9, b * 0.7)
    put(albedo, at, take(albedo, at) * dirt)

    at = indices(material == FOLIAGE)
    fine = 0.4 + 0.6 * torch.exp(take(surface.depth_m, take(hit, at)) * (-1 / 50))
    a, b = take(along, at), take(up, at)
    leaves = noise(a * 17 + b * 5, b * 17 + take(point[2], at) * 3)
    put(albedo, at, take(albedo, at) * (0.35 + 1.3 * fine * leaves))

    at = indices((material == FACADE) & ~flat)
    height = take(up, at)
    a, b = take(along, at) / WINDOW_M, (height - 0.4) / STOREY_M
    across, floor = a % 1, b % 1
    pane = (across > 0.27) & (across < 0.75) & (floor > 0.28) & (floor < 0.8) & (height > 1)
    cell = noise(a[pane].floor() * 7.3, b[pane].floor() * 11.7)
    pane = at[pane]
    put(albedo, pane, 0.02 + 0.25 * cell**3)
    if night:
        glow = torch.where(cell > 0.56, 0.15 + 0.35 * cell, 0.0)
        put(emitted, pane, glow * cell.new_tensor(LIT_WINDOW)[:, None])

    # Glass and paint mirror the sky, more so at grazing angles, and the sun.
    glassy = material == GLASS
    glassy[pane] = True
    at = indices(glassy | (material == PAINT))
    seen_from = take(hit, at)
    ray, n, glassy = take(surface.ray, seen_from), take(normal, at), glassy[at]
    cosine = (n * ray).sum(0)
    mirrored = ray - 2 * cosine * n
    grazing = (1 + cosine.clamp(-1, 0)) ** 3
    share = torch.where(glassy, 0.16 + 0.6 * grazing, 0.04 + 0.35 * grazing)
    upward = (mirrored[2] * 1.6).clamp(0, 1)
    shine = 0.8 * (mirrored * sky.sun).sum(0).clamp_min(0) ** 90 * (take(facing, seen_from) > 0)
    mirror = 0.6 * sky.haze + upward * (sky.zenith - 0.6 * sky.haze)
    emitted.index_add_(1, at, mirror * share + shine * sky.sun_light)

    at = indices(material == LAMP)
    emitted.index_add_(1, at, take(albedo, at) * (2.2 if night else 0.25))
    return albedo, emitted
