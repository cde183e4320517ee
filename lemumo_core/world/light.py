"""Light that reaches a camera: sun, sky, shadows, lamps, materials and weather. Linear RGB."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.world import ground
from lemumo_core.world.columns import indices, put, take
from lemumo_core.world.materials import appearance
from lemumo_core.world.raycast import occluded
from lemumo_core.world.solids import RETRO
from lemumo_core.world.street import Drive, Scene
from lemumo_core.world.surface import Surface
from lemumo_core.world.texture import noise
from lemumo_core.world.weather import Sky

SHADOW_M = 70.0
"""How far shadows are looked for."""
SHADOW_THINNEST_M = 0.06
"""Half size of the thinnest solid that throws one."""
OVERCAST = 0.6
"""A sun that is fainter than this share of the sky's light throws no shadows."""
LAMPS = 6
"""Street lamps that light a view: the nearest ones."""


def shade(surface: Surface, drive: Drive, scenes: list[Scene]) -> Tensor:
    """Return the light that reaches the camera, before exposure.

    Args:
        surface: what the camera's pixels meet.
        drive: the street that it was cast from.
        scenes: likewise, one for each view.

    Returns:
        Linear RGB float32 (3, M).
    """
    weather, depth = drive.weather, surface.depth_m
    sky = Sky.of(weather, depth.device)
    open_sky = torch.isinf(depth)
    far_m = depth.masked_fill(open_sky, 0.0)
    facing = (surface.normal * sky.sun).sum(0).clamp_min_(0)
    if sky.sun_light.max() > OVERCAST * sky.sky_light.max():
        facing *= _lit(surface, facing, sky.sun)

    at = surface.ground
    albedo = torch.zeros_like(surface.point)
    label = take(surface.label, at)
    put(albedo, at, ground.albedo(drive, surface.ground_points, label, take(far_m, at)))
    reflecting, emitted = appearance(surface, weather.night, sky, facing)
    put(albedo, surface.hit, reflecting)

    height = surface.normal[2].clamp_min(-0.6).mul_(0.55).add_(0.45)
    irradiance = facing * sky.sun_light + height * sky.sky_light
    if weather.night:
        irradiance += _street_lamps(surface, scenes) + _headlights(surface, far_m)
    seen = albedo.mul_(irradiance)
    seen.index_add_(1, surface.hit, emitted)
    clear = torch.exp(far_m * (-1 / weather.visibility_m))
    seen = sky.haze + clear * (seen - sky.haze)
    at = indices(open_sky)
    put(seen, at, _above(take(surface.ray, at), weather.clouds, sky))
    return seen


def _lit(surface: Surface, facing: Tensor, sun: Tensor) -> Tensor:
    """Return whether the sun reaches each point, bool (M,).

    Shadows are looked for near by, on the ground and on objects, at every second row and column of
    the tiles.
    """
    views, tiles = surface.views, len(surface.rays.view)
    edge = round(surface.rays.directions.shape[2] ** 0.5)
    asked = (facing > 0) & (surface.depth_m < SHADOW_M)
    scenery = take(surface.owner, surface.hit) < 0
    asked[surface.hit[scenery]] = False
    every = (slice(None), slice(None, None, 2), slice(None, None, 2))
    point = surface.point + 0.02 * surface.normal
    point = point.view(3, views, -1, edge, edge)[(slice(None), *every[:1], *every)]
    asked = asked.view(views, -1, edge, edge)[(*every[:1], *every)]
    R, eye = surface.T_world_view[:, :3, :3], surface.T_world_view[:, :3, 3]
    local = R.transpose(1, 2) @ (point.flatten(2) - eye.T[:, :, None]).transpose(0, 1)
    local = local.view(views, 3, tiles, -1).transpose(1, 2).flatten(0, 1)
    local = torch.where(asked.reshape(views * tiles, 1, -1), local, torch.nan)

    solids = surface.solids
    thick = torch.from_numpy(surface.scene_solids["half"].min(1)).to(facing.device)
    casters = (solids.near < SHADOW_M + 30) & (thick[solids.source] > SHADOW_THINNEST_M)
    view = torch.arange(views, device=facing.device).repeat_interleave(tiles)
    towards = (R.transpose(1, 2) @ sun)[..., 0]
    hidden = occluded(solids.subset(casters), local, view, towards)
    hidden = hidden.view(-1, edge // 2, edge // 2)
    return ~hidden.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()


def _street_lamps(surface: Surface, scenes: list[Scene]) -> Tensor:
    """Return the irradiance (3, M) from the nearest street lamps."""
    views = surface.views
    point, normal = surface.point.view(3, views, -1), surface.normal.view(3, views, -1)
    lamps = torch.full((views, LAMPS, 3), 1e6)
    for k, scene in enumerate(scenes):
        near = torch.from_numpy(scene.lamps)
        away = (near - surface.T_world_view[k, :3, 3].cpu()).norm(dim=1)
        near = near[away.argsort()[:LAMPS]]
        lamps[k, : len(near)] = near
    total = torch.zeros_like(point[0])
    for lamp in lamps.to(point.device).permute(1, 2, 0)[..., None]:
        # One component after the other: several times as fast as sums over the first axis.
        x, y, z = lamp - point
        inverse = (x * x).add_(y * y).add_(z * z).add_(4).reciprocal_()
        cosine = (x * normal[0]).add_(y * normal[1]).add_(z * normal[2]).clamp_min_(0)
        total += cosine.mul_(z.clamp_min_(0)).mul_(9.0).mul_(inverse.square_())
    return point.new_tensor((1.0, 0.72, 0.42))[:, None] * total.view(1, -1)


def _headlights(surface: Surface, far_m: Tensor) -> Tensor:
    """Return the irradiance (3, M) from the ego vehicle's lamps, which retroreflectors return."""
    forward = surface.T_world_view[:, :3, 2].T[:, :, None]
    off = 1 - (surface.ray.view(3, surface.views, -1) * forward).sum(0).clamp(0, 1).flatten()
    beam = torch.exp(off * (-1 / 0.035)) + 0.15 * torch.exp(off * (-1 / 0.2))
    aimed = -(surface.ray * surface.normal).sum(0)
    light = 14.0 * beam * aimed.clamp_min(0.03) / (1 + (far_m / 5) ** 2)
    light[surface.hit[surface.of_solids("material") == RETRO]] *= 6
    return light.new_tensor((0.95, 0.97, 1.0))[:, None] * light


def _above(ray: Tensor, clouds: float, sky: Sky) -> Tensor:
    """Return the linear RGB (3, n) of rays (3, n) that hit nothing."""
    up = ray[2].clamp(0, 1)
    color = sky.haze + (1 - (1 - up) ** 3.5) * (sky.zenith - sky.haze)
    if clouds:
        scale = 14 / (up + 0.15)
        a, b = ray[0] * scale, ray[1] * scale
        cloud = 0.6 * noise(a, b) + 0.4 * noise(a * 3.7, b * 3.7)
        cover = ((cloud - 0.55) * 2.5).clamp(0, 0.7) * (up * 12).clamp(0, 1) * clouds
        color += cover * (sky.haze * 0.8 + sky.sun_light * 0.1 - color)
    glow = (ray * sky.sun).sum(0).clamp_min(0)
    return color + (0.25 * glow**24 + 4 * glow**900) * sky.sun_light
