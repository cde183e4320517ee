"""What a camera records of cast rays: light, materials, weather. Linear RGB until the very end."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lemumo_core.data.world.raycast import Solids, normals, occluded
from lemumo_core.data.world.solids import (
    BRICK,
    FACADE,
    FOLIAGE,
    GLASS,
    LAMP,
    PAINT,
    PLAIN,
    RETRO,
)
from lemumo_core.data.world.street import (
    CROSSING_HALF_M,
    LANE_M,
    PARKING_M,
    Drive,
    Scene,
    Weather,
)
from lemumo_core.taxonomy import SEGMENTATION_IDS

ROAD, SIDEWALK, TERRAIN, SKY = (
    SEGMENTATION_IDS[name] for name in ("road", "sidewalk", "terrain", "sky")
)
NOISE_SIZE = 512
SHADOW_M = 70.0
"""How far shadows are looked for."""
ASPHALT, PAVING, GRASS, PAINT_WHITE = (
    *((0.085, 0.085, 0.09), (0.27, 0.25, 0.235), (0.07, 0.105, 0.035), (0.62, 0.62, 0.6)),
)


@dataclass(frozen=True, eq=False)
class Surface:
    """What N rays meet.

    Attributes:
        depth: float32 (N,), metres along the view's axis, inf = sky.
        point: float32 (N, 3), world frame.
        normal: float32 (N, 3), world frame.
        ray: float32 (N, 3), world frame, unit length.
        row: int64 (N,), row of the scene's solids, -1 = ground or sky.
        label: uint8 (N,), 255 = nothing was hit.
        owner: int32 (N,), the object it belongs to, -1 = none.
    """

    depth: Tensor
    point: Tensor
    normal: Tensor
    ray: Tensor
    row: Tensor
    label: Tensor
    owner: Tensor


def surface(
    scene: Scene,
    solids: Solids,
    first: Tensor,
    depth: Tensor,
    rays: Tensor,
    T_world_view: np.ndarray,
) -> Surface:
    """Gather what was hit.

    Args:
        scene: the street.
        solids: the scene's, in the view's frame.
        first, depth: int64 and float32 (N,), from ``raycast.cast``.
        rays: float32 (N, 3), (u, v, 1) in the view's frame.
        T_world_view: (4, 4).
    """
    device = depth.device
    T = torch.from_numpy(T_world_view.astype(np.float32)).to(device)
    towards = rays @ T[:3, :3].T
    ground_depth = torch.where(towards[:, 2] < -1e-6, -T[2, 3] / towards[:, 2], torch.inf)
    on_ground = ground_depth < depth
    depth = torch.minimum(depth, ground_depth)
    first = torch.where(on_ground, -1, first)
    solid = (first >= 0).nonzero()[:, 0]
    reach = torch.where(torch.isinf(depth), 0.0, depth)[:, None]
    row = first.clone()
    row[solid] = solids.source[first[solid]]
    normal = torch.zeros_like(towards)
    normal[:, 2] = 1.0
    seen = normals(solids, first[solid], rays[solid] * reach[solid])
    normal[solid] = seen @ T[:3, :3].T
    label = torch.full_like(row, 255, dtype=torch.uint8)
    label[solid] = column(scene, "label", device)[row[solid]]
    owner = torch.full_like(row, -1, dtype=torch.int32)
    owner[solid] = column(scene, "owner", device)[row[solid]]
    return Surface(
        depth, towards * reach + T[:3, 3], normal, F.normalize(towards, dim=-1), row, label, owner
    )


def column(scene: Scene, name: str, device: torch.device) -> Tensor:
    """One field of the scene's solids as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(scene.solids[name])).to(device)


def _ground(drive: Drive, point: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) and albedo (n, 3) of ground points (n, 3)."""
    x, y = point[:, 0], point[:, 1]
    middle = torch.zeros_like(x)
    for a, k, p in drive.waves.tolist():
        if a:
            middle = middle + a * torch.sin(k * x + p)
    across = y - middle
    side = across.abs()
    ego = float(x.median())
    near = x.new_tensor(drive.crossings(ego - 400, ego + 400))
    gap = (x[:, None] - near).abs().amin(1)
    walk = drive.half_m + drive.walk_m

    road = (side < drive.half_m) | (gap < CROSSING_HALF_M)
    paved = ~road & ((side < walk) | (gap < CROSSING_HALF_M + 2.6))
    fine = torch.exp(-depth / 45)
    grain = (noise(x * 21, y * 21) - 0.5) * fine
    coarse = noise(x * 1.3, y * 1.3) - 0.5

    colour = x.new_tensor(GRASS).expand(len(x), 3).clone()
    colour = colour * (1 + 0.9 * grain + 0.7 * coarse)[:, None]
    slabs = ((x % 0.6 < 0.03) | (across % 0.6 < 0.03)).float() * torch.exp(-depth / 14)
    stones = x.new_tensor(PAVING) * (1 + 0.35 * grain + 0.25 * coarse - 0.35 * slabs)[:, None]
    tracks = 1 + 0.12 * torch.cos(2 * np.pi * (side - LANE_M / 2) / (LANE_M / 2)) * (
        side < drive.half_m - PARKING_M
    )
    patch = 0.55 * (noise(x * 0.21 + 99, y * 0.35) > 0.62).float()
    tar = x.new_tensor(ASPHALT) * ((1 + 0.5 * grain + 0.4 * coarse + 0.4 * patch) * tracks)[:, None]
    colour = torch.where(paved[:, None], stones, colour)
    colour = torch.where(road[:, None], tar, colour)

    paint = _paint(drive, x, across, side, gap) & (noise(x * 9, y * 9) > 0.22)
    worn = (0.75 + 0.5 * coarse)[:, None]
    colour = torch.where(paint[:, None], x.new_tensor(PAINT_WHITE) * worn, colour)
    label = torch.where(road, ROAD, torch.where(paved, SIDEWALK, TERRAIN)).to(torch.uint8)
    return label, colour.clamp(0.005, 1)


def _paint(drive: Drive, x: Tensor, across: Tensor, side: Tensor, gap: Tensor) -> Tensor:
    """Where lane lines, stop lines and zebra crossings are."""
    open_road = gap > CROSSING_HALF_M + 5
    dashed = x % 9 < (3.5, 5.0, 9.0)[drive.paint]
    paint = (side < 0.07) & dashed & open_road
    if drive.lanes_each_way == 2:
        paint |= ((side - LANE_M).abs() < 0.06) & (x % 8 < 3) & open_road
    edge = drive.half_m - PARKING_M
    paint |= ((side - edge).abs() < 0.05) & open_road
    paint |= (side < drive.half_m) & (side > edge) & (x % 7.5 < 0.09) & open_road
    band = gap - CROSSING_HALF_M
    paint |= (band > 0.6) & (band < 3.4) & (side < drive.half_m) & (across % 1.0 < 0.5)
    return paint | ((band > 4.2) & (band < 4.6) & (side < edge) & (side > 0.2))


def shade(
    surface: Surface,
    drive: Drive,
    scene: Scene,
    solids: Solids,
    T_world_view: np.ndarray,
    shape: tuple[int, int],
) -> Tensor:
    """Light that reaches the camera, before exposure; fills in the ground's and sky's labels.

    Args:
        surface: of the (H * W) rays of an image, row by row.
        drive, scene, solids: the street.
        T_world_view: (4, 4).
        shape: (H, W), multiples of 16.

    Returns:
        Linear RGB float32 (H * W, 3).
    """
    device, weather = surface.depth.device, drive.weather
    sun, sun_light, sky_light, zenith, haze = (
        torch.from_numpy(v).to(device)
        for v in (weather.sun, weather.sun_light, weather.sky_light, weather.sky, weather.haze)
    )
    solid = (surface.row >= 0).nonzero()[:, 0]
    sky = torch.isinf(surface.depth).nonzero()[:, 0]
    ground = ((surface.row < 0) & torch.isfinite(surface.depth)).nonzero()[:, 0]
    distance = torch.where(torch.isinf(surface.depth), 0.0, surface.depth)

    facing = (surface.normal @ sun).clamp_min(0)
    facing = facing * ~_shadow(surface, scene, solids, facing, sun, T_world_view, shape)
    albedo = torch.zeros_like(surface.point)
    emitted = torch.zeros_like(albedo)
    label, albedo[ground] = _ground(drive, surface.point[ground], distance[ground])
    surface.label[ground], surface.label[sky] = label, SKY
    colour = column(scene, "colour", device)[surface.row[solid]]
    material = column(scene, "material", device)[surface.row[solid]]
    albedo[solid], emitted[solid] = _materials(
        surface, solid, colour, material, weather, facing[solid]
    )
    height = 0.45 + 0.55 * surface.normal[:, 2].clamp_min(-0.6)
    irradiance = facing[:, None] * sun_light + height[:, None] * sky_light
    if weather.night:
        irradiance += _lamps(surface, solid[material == RETRO], scene, T_world_view, distance)
    clear = torch.exp(-distance / weather.visibility_m)[:, None]
    seen = torch.lerp(haze, albedo * irradiance + emitted, clear)
    seen[sky] = _sky(surface.ray[sky], weather, sun, sun_light, zenith, haze)
    return seen


def _shadow(
    surface: Surface,
    scene: Scene,
    solids: Solids,
    facing: Tensor,
    sun: Tensor,
    T_world_view: np.ndarray,
    shape: tuple[int, int],
) -> Tensor:
    """bool (N,), of what is near and on the ground or on an object, asked at every second row
    and column."""
    height, width = shape
    T = torch.from_numpy(T_world_view.astype(np.float32)).to(sun.device)
    asked = (facing > 0) & (surface.depth < SHADOW_M)
    asked &= (surface.row < 0) | (surface.owner >= 0)
    point = torch.where(asked[:, None], surface.point + 0.02 * surface.normal, torch.nan)
    point = point.view(height, width, 3)[::2, ::2]
    tiles = point.reshape(height // 16, 8, width // 16, 8, 3).permute(0, 2, 4, 1, 3)
    tiles = torch.einsum("ij,tir->tjr", T[:3, :3], tiles.reshape(-1, 3, 64) - T[:3, 3, None])
    casters = solids.subset(
        (solids.near < SHADOW_M + 30)
        & (column(scene, "half", sun.device).amin(1)[solids.source] > 0.06)
    )
    view = torch.zeros(len(tiles), dtype=torch.int64, device=sun.device)
    hidden = occluded(casters, tiles, view, (sun @ T[:3, :3])[None])
    hidden = hidden.view(height // 16, width // 16, 8, 8).permute(0, 2, 1, 3)
    hidden = hidden.reshape(height // 2, width // 2)
    return hidden.repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()


def _materials(
    surface: Surface,
    solid: Tensor,
    colour: Tensor,
    material: Tensor,
    weather: Weather,
    facing: Tensor,
) -> tuple[Tensor, Tensor]:
    """Albedo, and emitted plus mirrored light, (n, 3) each, of the rays ``solid`` (n,) that hit a
    solid of a colour (n, 3) and a material (n,)."""
    point, normal, depth = surface.point[solid], surface.normal[solid], surface.depth[solid]
    flat = normal[:, 2].abs() > 0.7
    along = torch.where(flat, point[:, 0], point[:, 1] * normal[:, 0] - point[:, 0] * normal[:, 1])
    up = torch.where(flat, point[:, 1], point[:, 2])
    albedo, emitted = colour.clone(), torch.zeros_like(colour)

    rough = ((material == FACADE) | (material == BRICK) | (material == PLAIN)).nonzero()[:, 0]
    a, b = along[rough], up[rough]
    dirt = 0.5 * noise(a * 6, b * 6) + 0.4 * noise(a * 0.9, b * 0.7)
    albedo[rough] *= (0.55 + dirt)[:, None]

    leaf = (material == FOLIAGE).nonzero()[:, 0]
    a, b, c = along[leaf], up[leaf], point[leaf, 2]
    leaves = noise(a * 17 + b * 5, b * 17 + c * 3) * (0.4 + 0.6 * torch.exp(-depth[leaf] / 50))
    albedo[leaf] *= (0.35 + 1.3 * leaves)[:, None]

    wall = ((material == FACADE) & ~flat).nonzero()[:, 0]
    a, b = along[wall] / 2.3, (up[wall] - 0.4) / 3.1
    across, floor = a - a.floor(), b - b.floor()
    pane = (across > 0.27) & (across < 0.75) & (floor > 0.28) & (floor < 0.8) & (up[wall] > 1)
    cell = noise(a.floor() * 7.3, b.floor() * 11.7)[pane]
    pane = wall[pane]
    albedo[pane] = (0.02 + 0.25 * cell**3)[:, None].expand(-1, 3)
    if weather.night:
        glow = torch.where(cell > 0.56, 0.15 + 0.35 * cell, 0.0)
        emitted[pane] = glow[:, None] * colour.new_tensor((0.9, 0.62, 0.3))

    # Glass and paint mirror the sky, more so at grazing angles, and the sun.
    glassy = material == GLASS
    glassy[pane] = True
    shiny = (glassy | (material == PAINT)).nonzero()[:, 0]
    ray, n = surface.ray[solid[shiny]], normal[shiny]
    cosine = (n * ray).sum(1)
    mirrored = ray - 2 * cosine[:, None] * n
    grazing = (1 + cosine.clamp(-1, 0)) ** 3
    share = torch.where(glassy[shiny], 0.16 + 0.6 * grazing, 0.04 + 0.35 * grazing)
    sun, sun_light, zenith, haze = (
        torch.from_numpy(v).to(ray.device)
        for v in (weather.sun, weather.sun_light, weather.sky, weather.haze)
    )
    upward = (mirrored[:, 2] * 1.6).clamp(0, 1)[:, None]
    shine = 0.8 * (mirrored @ sun).clamp_min(0) ** 90 * (facing[shiny] > 0)
    emitted[shiny] += torch.lerp(0.6 * haze, zenith, upward) * share[:, None]
    emitted[shiny] += shine[:, None] * sun_light
    lamp = (material == LAMP).nonzero()[:, 0]
    emitted[lamp] += colour[lamp] * (2.2 if weather.night else 0.25)
    return albedo, emitted


def _lamps(
    surface: Surface, retro: Tensor, scene: Scene, T_world_view: np.ndarray, distance: Tensor
) -> Tensor:
    """Irradiance (N, 3) from street lamps and from the ego vehicle's headlights, which the rays
    ``retro`` send straight back."""
    point, normal = surface.point, surface.normal
    eye = T_world_view[:3, 3]
    nearest = np.argsort(np.linalg.norm(scene.lamps - eye, axis=1))[:8]
    total = torch.zeros_like(distance)
    for lamp in scene.lamps[nearest]:
        away = torch.from_numpy(lamp).to(point.device) - point
        square = (away * away).sum(-1)
        cosine = (away * normal).sum(-1).clamp_min(0) * square.rsqrt()
        cone = (away[..., 2] * square.rsqrt()).clamp_min(0)
        total = total + 9.0 * cosine * cone / (square + 4)
    warm = point.new_tensor((1.0, 0.72, 0.42))
    forward = torch.from_numpy(T_world_view[:3, 2].astype(np.float32)).to(point.device)
    axis = (surface.ray @ forward).clamp(0, 1)
    beam = torch.exp(-((1 - axis) / 0.035)) + 0.15 * torch.exp(-((1 - axis) / 0.2))
    aimed = -(surface.ray * normal).sum(-1)
    head = 14.0 * beam * aimed.clamp_min(0.03) / (1 + (distance / 5) ** 2)
    head[retro] *= 6
    return warm * total[..., None] + point.new_tensor((0.95, 0.97, 1.0)) * head[..., None]


def _sky(
    ray: Tensor, weather: Weather, sun: Tensor, sun_light: Tensor, zenith: Tensor, haze: Tensor
) -> Tensor:
    """Linear RGB (n, 3) of rays (n, 3) that hit nothing."""
    up = ray[:, 2].clamp(0, 1)
    colour = torch.lerp(haze, zenith, (1 - (1 - up) ** 3.5)[:, None])
    scale = 14 / (up + 0.15)
    a, b = ray[:, 0] * scale, ray[:, 1] * scale
    cloud = 0.6 * noise(a, b) + 0.4 * noise(a * 3.7, b * 3.7)
    cover = ((cloud - 0.55) * 2.5).clamp(0, 0.7) * (up * 12).clamp(0, 1) * weather.clouds
    colour = torch.lerp(colour, haze * 0.8 + sun_light * 0.1, cover[:, None])
    glow = (ray @ sun).clamp_min(0)
    return colour + (0.25 * glow**24 + 4 * glow**900)[:, None] * sun_light


def noise(a: Tensor, b: Tensor) -> Tensor:
    """Tileable fractal noise in [0, 1) at (a, b), one texel a unit."""
    table = _noise_table(str(a.device))
    column = a.floor().long() & (NOISE_SIZE - 1)
    row = b.floor().long() & (NOISE_SIZE - 1)
    return table[row * NOISE_SIZE + column]


@functools.cache
def _noise_table(device: str) -> Tensor:
    rng = np.random.default_rng(5)
    total = np.zeros((NOISE_SIZE, NOISE_SIZE))
    for octave, weight in ((8, 0.2), (32, 0.25), (128, 0.3), (NOISE_SIZE, 0.25)):
        lattice = torch.from_numpy(rng.random((1, 1, octave, octave)))
        wrapped = F.pad(lattice, (1, 1, 1, 1), mode="circular")
        scale = NOISE_SIZE // octave
        grown = F.interpolate(wrapped, scale_factor=scale, mode="bilinear", align_corners=False)
        total += weight * grown[0, 0, scale : scale + NOISE_SIZE, scale : scale + NOISE_SIZE].numpy()
    flat = torch.from_numpy(total).flatten()
    ranks = flat.argsort().argsort() / len(flat)  # uniform
    return ranks.float().to(device)


def develop(radiance: Tensor, exposure: float, gain: float, generator: torch.Generator) -> Tensor:
    """Lens and sensor: linear RGB (H, W, 3) to uint8.

    Args:
        radiance: linear light.
        exposure: scale of the light.
        gain: of the sensor; noise grows with it.
        generator: of the noise, on the radiance's device.
    """
    height, width = radiance.shape[:2]
    planes = radiance.permute(2, 0, 1).contiguous()
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    planes = 0.6 * padded[:, 1:-1] + 0.2 * (padded[:, :-2] + padded[:, 2:])
    planes = 0.6 * planes[:, :, 1:-1] + 0.2 * (planes[:, :, :-2] + planes[:, :, 2:])
    y = torch.linspace(-1, 1, height, device=radiance.device)[:, None]
    x = torch.linspace(-1, 1, width, device=radiance.device)
    exposed = planes * (exposure * (1 - 0.16 * (x * x + y * y)))
    value = exposed * 1.15 / (exposed + 0.5)
    spread = torch.sqrt(gain * (0.0006 * value + 0.00004))
    grain = torch.empty_like(value).normal_(generator=generator)
    # A gamma of 2 stands for sRGB's curve.
    value = (value + spread * grain).clamp(0, 1).sqrt()
    return (value * 255 + 0.5).to(torch.uint8).permute(1, 2, 0)
