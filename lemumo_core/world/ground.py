"""The ground plane: road, pavement, grass and the paint on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world.columns import indices, put, take
from lemumo_core.world.road import CROSSING_HALF_M, LANE_M, PARKING_M
from lemumo_core.world.street import Drive
from lemumo_core.world.texture import noise

ROAD, SIDEWALK, TERRAIN = (SEGMENTATION_IDS[name] for name in ("road", "sidewalk", "terrain"))
WHITE, YELLOW = (0.62, 0.62, 0.6), (0.6, 0.42, 0.07)


class Materials(NamedTuple):
    """Surface of the ground of a street, by default that of a street that is not varied.

    Attributes:
        asphalt: albedo of the road, linear RGB.
        paving: albedo of the pavement.
        grass: albedo of the terrain beside both.
        paint: albedo of lines and crossings.
        patches: share by which the road is brighter where it was repaired; darker below 0.
        joint_m: distance between the joints of the pavement, metres.
    """

    asphalt: tuple[float, ...] = (0.085, 0.085, 0.09)
    paving: tuple[float, ...] = (0.27, 0.25, 0.235)
    grass: tuple[float, ...] = (0.07, 0.105, 0.035)
    paint: tuple[float, ...] = WHITE
    patches: float = 0.22
    joint_m: float = 0.6


def materials(drive: Drive) -> Materials:
    """Return the materials of a street.

    Streets that are not varied all have the same. On varied streets the brightness of a surface
    does not reveal its class: roads range from black asphalt to light concrete, pavements from
    asphalt to light slabs and red brick, and grass from green to dry.
    """
    usual = Materials()
    if not drive.varied:
        return usual
    rng = drive.rng("ground")

    def shade(low: float, high: float, tint: float) -> np.ndarray:
        warm = rng.uniform(-tint, 1.5 * tint)
        return np.exp(rng.uniform(*np.log((low, high)))) * np.array([1 + warm, 1.0, 1 - warm])

    return Materials(
        asphalt=tuple(shade(0.05, 0.33, 0.08)),
        paving=tuple(shade(0.07, 0.42, 0.18)),
        grass=tuple(np.array(usual.grass) * rng.uniform((0.6, 0.6, 0.6), (2.8, 1.5, 2.4))),
        paint=WHITE if rng.random() < 0.75 else YELLOW,
        patches=float(rng.uniform(-0.35, 0.5)),
        joint_m=float(rng.choice([0.2, 0.4, 0.6, 1.5, 4.0])),
    )


class GroundPoints(NamedTuple):
    """Points (n,) of the ground, metres.

    x: world. y: world. across: offset from the road's middle line, left is positive. gap: distance
    to the middle line of the nearest crossing road.
    """

    x: Tensor
    y: Tensor
    across: Tensor
    gap: Tensor


def points_on_street(drive: Drive, x: Tensor, y: Tensor) -> GroundPoints:
    """Locate ground points (n,) of the world relative to the road and its crossings."""
    middle = torch.zeros_like(x)
    for a, k, p in drive.waves.tolist():
        if a:
            middle += a * torch.sin(k * x + p)
    if not len(x):
        return GroundPoints(x, y, y - middle, x.clone())
    crossings = x.new_tensor(drive.crossings(float(x.min()) - 200, float(x.max()) + 200))
    nearest = torch.bucketize(x, (crossings[1:] + crossings[:-1]) / 2)
    return GroundPoints(x, y, y - middle, (x - crossings[nearest]).abs())


def labels(drive: Drive, points: GroundPoints) -> Tensor:
    """Return the segmentation ids, uint8 (n,), of ground points."""
    side = points.across.abs()
    road = (side < drive.half_m) | (points.gap < CROSSING_HALF_M)
    paved = (side < drive.half_m + drive.walk_m) | (points.gap < CROSSING_HALF_M + 2.6)
    label = torch.full_like(side, TERRAIN, dtype=torch.uint8)
    return label.masked_fill_(paved, SIDEWALK).masked_fill_(road, ROAD)


def albedo(drive: Drive, points: GroundPoints, label: Tensor, far_m: Tensor) -> Tensor:
    """Return the albedo of ground points, linear RGB (3, n).

    Args:
        drive: the street.
        points: of ``points_on_street``.
        label: their ``labels``.
        far_m: (n,) distance from the eye; fine grain fades with it instead of flickering.
    """
    made_of = materials(drive)
    x, y, across, gap = points
    color = x.new_empty(3, len(x))
    grain = (noise(x * 21, y * 21) - 0.5) * torch.exp(far_m * (-1 / 45))
    coarse = noise(x * 1.3, y * 1.3) - 0.5

    at = indices(label == TERRAIN)
    bright = 1 + 0.9 * take(grain, at) + 0.7 * take(coarse, at)
    put(color, at, x.new_tensor(made_of.grass)[:, None] * bright)

    at = indices(label == SIDEWALK)
    joint = (take(x, at) % made_of.joint_m < 0.03) | (take(across, at) % made_of.joint_m < 0.03)
    bright = 1 + 0.35 * take(grain, at) + 0.25 * take(coarse, at)
    bright -= 0.35 * joint * torch.exp(take(far_m, at) * (-1 / 14))
    put(color, at, x.new_tensor(made_of.paving)[:, None] * bright)

    at = indices(label == ROAD)
    x, y, across, gap, coarse = (take(v, at) for v in (x, y, across, gap, coarse))
    side = across.abs()
    tracks = 0.12 * torch.cos((side - LANE_M / 2) * (4 * np.pi / LANE_M))
    bright = 1 + 0.5 * take(grain, at) + 0.4 * coarse
    bright += made_of.patches * (noise(x * 0.21 + 99, y * 0.35) > 0.62)
    bright *= 1 + tracks * (side < drive.half_m - PARKING_M)
    road = x.new_tensor(made_of.asphalt)[:, None] * bright
    painted = indices(_paint(drive, x, across, side, gap))
    painted = painted[noise(take(x, painted) * 9, take(y, painted) * 9) > 0.22]
    worn = 0.75 + 0.5 * take(coarse, painted)
    put(road, painted, x.new_tensor(made_of.paint)[:, None] * worn)
    put(color, at, road)
    return color.clamp_(0.005, 1)


def _paint(drive: Drive, x: Tensor, across: Tensor, side: Tensor, gap: Tensor) -> Tensor:
    """Return where lane lines, parking bays, stop lines and zebra crossings are, bool (n,)."""
    open_road = gap > CROSSING_HALF_M + 5
    edge = drive.half_m - PARKING_M
    lines = (side < 0.07) & (x % 9 < (3.5, 5.0, 9.0)[drive.paint])
    if drive.lanes_each_way == 2:
        lines |= ((side - LANE_M).abs() < 0.06) & (x % 8 < 3)
    lines |= (side - edge).abs() < 0.05
    for parking in drive.parking:
        strip = across * parking
        lines |= (strip < drive.half_m) & (strip > edge) & (x % 7.5 < 0.09)
    band = gap - CROSSING_HALF_M
    zebra = (band > 0.6) & (band < 3.4) & (side < drive.half_m) & (across % 1.0 < 0.5)
    stop = (band > 4.2) & (band < 4.6) & (side < edge) & (side > 0.2)
    return (lines & open_road) | zebra | stop
