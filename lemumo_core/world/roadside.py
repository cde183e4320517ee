"""Static scenery along a road, in stretches of ``STRETCH_M``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lemumo_core.world import scenery
from lemumo_core.world.palette import Rng
from lemumo_core.world.road import CROSSING_HALF_M, Road
from lemumo_core.world.solids import extent, placed

STRETCH_M = 30.0
Item = tuple[np.ndarray, float, float]
"""A model, x along the road, and how far left of the middle it stands."""


def stretch(road: Road, k: int) -> np.ndarray:
    """Build the scenery of the k-th stretch, ``SOLID`` (P,), world frame.

    Crossings are kept free.
    """
    rng, start = road.rng("stretch", k), STRETCH_M * k
    crossings = road.crossings(start, start + STRETCH_M)
    models, positions, yaws = [], [], []
    for model, x, offset in _along(road, rng, start):
        if len(crossings):  # the usual stretch has none, and bounds take time
            reach = CROSSING_HALF_M + 1 + np.abs(extent(model)[0][0])
            if np.abs(crossings - x).min() < reach:
                continue
        y, yaw = road.beside(x, offset)
        models.append(model)
        positions.append((x, y, 0.0))
        yaws.append(float(yaw) + np.pi * (offset < 0))  # models have the street on their right
    for crossing in crossings[(crossings >= start) & (crossings < start + STRETCH_M)]:
        for model, x, offset in _at_crossing(road, rng, crossing):
            models.append(model)
            positions.append((x, road.middle(x) + offset, 0.0))
            yaws.append(np.pi * (offset < 0))
    owners = np.full(len(models), -1)  # scenery
    return placed(models, np.array(positions).reshape(-1, 3), np.array(yaws), owners)


def _along(road: Road, rng: Rng, start: float) -> Iterator[Item]:
    end = start + STRETCH_M
    for side in (-1, 1):
        for x in np.arange(start + 3, end, 6):
            yield scenery.kerb(6.02), x, side * (road.half_m + 0.08)
        yield from _plots(road, rng, side, start)
        for x in np.arange(start + rng.uniform(0, 8), end, 9.5):
            kind = rng.random()
            if kind < 0.25 + 0.5 * road.green:
                model = scenery.tree(rng)
            elif kind < 0.72 + 0.2 * road.green:
                model = scenery.road_sign(rng)
            else:
                model = scenery.bin_or_box(rng)
            yield model, x, side * (road.half_m + 0.55)
        yield scenery.lamp_post(rng), start + 15 + 4 * side, side * (road.half_m + 0.35)


def _plots(road: Road, rng: Rng, side: int, start: float) -> Iterator[Item]:
    """Yield the houses and gardens behind the pavement."""
    wall, end, x = road.half_m + road.walk_m, start + STRETCH_M, start
    while x < end - 1:
        length = rng.uniform(9, 16) if end - x > 18 else end - x
        setback = rng.choice([0.2, 0.2, 0.5, 3.0, 6.0])
        if rng.random() < 0.9 - 0.55 * road.green:
            yield scenery.building(rng, length), x + length / 2, side * (wall + setback)
        else:
            for _ in range(3):
                at = x + rng.uniform(0, length)
                yield scenery.tree(rng), at, side * (wall + rng.uniform(2, 12))
        if setback > 2 and rng.random() < 0.6:
            yield scenery.hedge(rng), x + length / 2, side * (wall + 0.8)
        x += length


def _at_crossing(road: Road, rng: Rng, crossing: float) -> Iterator[Item]:
    """Yield the signals before it, and the houses that close the view into the crossing road."""
    for side in (-1, 1):
        signal = crossing + side * (CROSSING_HALF_M + 2.2)
        yield scenery.traffic_light(rng), signal, side * (road.half_m + 0.5)
        yield scenery.building(rng, 26), crossing, side * rng.uniform(44, 60)
