"""Things beside the road that are no road users, and that a LiDAR may take for some.

A varied street has them (``Drive``). Models are as in ``scenery``: ``SOLID`` (P,) in a body frame
whose x runs along the street; origin on the ground. Walls and fences are labelled as building,
plants as vegetation, all else as pole, like the street's other furniture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lemumo_core.world.palette import PAINTS, Rng, pick
from lemumo_core.world.road import Road
from lemumo_core.world.scenery import BARK, CONCRETE, GALVANISED, WALLS
from lemumo_core.world.solids import (
    BOX,
    BRICK,
    CYLINDER,
    ELLIPSOID,
    FOLIAGE,
    PAINT,
    RETRO,
    TAPERED,
    bar,
    extent,
    joined,
    placed,
    solid,
)

BAY_TAKEN = 0.5
"""Share of the empty parking bays in which something stands."""
BAY_M = (6.0, 1.7, np.inf)
"""What stands in a bay is smaller than this."""
GAP_M = 3.5
"""Mean distance between things on a strip beside the road, where it is densest."""
KERB_DEEPEST_M = 0.6
"""What stands between the kerb and the pavement is no deeper than this."""


def stretch(
    road: Road, start: float, end: float, bays: Iterable[tuple[float, float]]
) -> np.ndarray:
    """Build the clutter of a stretch of road, ``SOLID`` (P,), world frame.

    Args:
        road: the street.
        start: x of the stretch's begin, metres.
        end: of its end.
        bays: x and offset to the left of the road's middle of parking bays without a vehicle.
    """
    rng = road.rng("clutter", round(start))
    models, positions, yaws = [], [], []
    for model, x, offset, turn in (*_beside(road, rng, start, end), *_in_bays(rng, bays)):
        y, yaw = road.beside(x, offset)
        models.append(model)
        positions.append((x, float(y), 0.0))
        yaws.append(float(yaw) + turn)
    owners = np.full(len(models), -1)
    return placed(models, np.array(positions).reshape(-1, 3), np.array(yaws), owners)


def _beside(
    road: Road, rng: Rng, start: float, end: float
) -> Iterator[tuple[np.ndarray, float, float, float]]:
    """Yield things between kerb and pavement, and where houses leave room behind it."""
    crossings = road.crossings(start, end)
    wall = road.half_m + road.walk_m
    for side in (-1, 1):
        for near in (True, False):
            x = start + rng.exponential(GAP_M)
            while x < end:
                model = _draw(rng, KERB_MODELS if near else GARDEN_MODELS)
                low, high = extent(model)
                if near and high[1] - low[1] > KERB_DEEPEST_M:
                    x += 1.0
                    continue
                offset = road.half_m + 0.15 - low[1] if near else wall + rng.uniform(0.4, 9)
                reach = np.abs((low[0], high[0])).max()
                if np.abs(crossings - x).min(initial=np.inf) > road.half_m + reach + 2:
                    turn = 0.0 if near else rng.uniform(-np.pi, np.pi) * (rng.random() < 0.5)
                    yield model, x, side * offset, turn + np.pi * (side < 0)
                x += high[0] - low[0] + rng.exponential(GAP_M if not near else 3 * GAP_M)


def _in_bays(
    rng: Rng, bays: Iterable[tuple[float, float]]
) -> Iterator[tuple[np.ndarray, float, float, float]]:
    """Yield what stands in parking bays."""
    for x, offset in bays:
        model = _draw(rng, BAY_MODELS)
        low, high = extent(model)
        if rng.random() < BAY_TAKEN and (high - low < BAY_M).all():
            middle = (low + high) / 2
            yield model, x - middle[0], offset - middle[1], rng.uniform(-0.05, 0.05)


def _draw(rng: Rng, models: Sequence[Callable[[Rng], np.ndarray]]) -> np.ndarray:
    return models[int(rng.integers(len(models)))](rng)


def bush(rng: Rng) -> np.ndarray:
    """Build one bush, knee-high to as large as a car."""
    size = rng.uniform(0.6, 2.4)
    green = np.array([0.06, 0.1, 0.03]) * rng.uniform(0.5, 1.6) + rng.uniform(0, 0.04, 3)
    count = int(rng.integers(2, 7))
    spread = rng.uniform((0.3, 0.2), (0.9, 0.5)) * size
    parts = []
    for _ in range(count):
        x, y = rng.normal(0, 0.5, 2) * spread
        half = rng.uniform(0.35, 0.7, 3) * size
        parts.append(
            solid(
                "vegetation",
                (x, y, 0.8 * half[2]),
                2 * half,
                green * rng.uniform(0.7, 1.3),
                ELLIPSOID,
                FOLIAGE,
                yaw=rng.uniform(0, 3),
                warmth=-1.0,
            )
        )
    return joined(parts)


def wall(rng: Rng) -> np.ndarray:
    """Build a garden wall or a row of concrete barriers."""
    length, height = rng.uniform(1.5, 9), rng.uniform(0.6, 2.1)
    if rng.random() < 0.4:  # barriers lean in towards the top
        size = (length, 0.5, rng.uniform(0.7, 1.0))
        return solid("building", (0, 0, size[2] / 2), size, CONCRETE, TAPERED, taper=(0, 0, 0.6))
    color = WALLS[rng.integers(len(WALLS))]
    size = (length, rng.uniform(0.15, 0.4), height)
    return solid("building", (0, 0, height / 2), size, color, BOX, BRICK)


def fence(rng: Rng) -> np.ndarray:
    """Build a fence: posts with rails, planks or a closed hoarding between them."""
    length, height = rng.uniform(3, 10), rng.uniform(0.8, 2.0)
    color = np.array(rng.choice([GALVANISED, BARK, (0.5, 0.5, 0.48), (0.05, 0.14, 0.07)]))
    posts = np.linspace(-length / 2, length / 2, max(2, round(length / rng.uniform(1.2, 2.5))))
    parts = [
        solid("building", (x, 0, height / 2), (0.08, 0.08, height), color, CYLINDER) for x in posts
    ]
    kind = rng.integers(3)
    if kind == 0:
        for z in np.arange(0.3, height, rng.uniform(0.2, 0.5)):
            parts.append(solid("building", (0, 0.05, z), (length, 0.04, 0.06), color))
    elif kind == 1:
        for x in np.arange(-length / 2, length / 2, rng.uniform(0.15, 0.35)):
            parts.append(solid("building", (x, 0.05, height / 2), (0.1, 0.03, height), color))
    else:
        paint = rng.uniform(0.1, 0.6, 3)
        parts.append(solid("building", (0, 0.05, height / 2), (length, 0.03, height - 0.1), paint))
    return joined(parts)


def railing(rng: Rng) -> np.ndarray:
    """Build a railing along the kerb: thin bars between two rails, which beams pass."""
    length, height, width = rng.uniform((4, 0.8, 0.015), (10, 1.2, 0.04))
    color = np.array(rng.choice([GALVANISED, (0.05, 0.14, 0.07), (0.6, 0.6, 0.58)]))
    rail, bar_size = (length, 0.05, 0.05), (width, width, height - 0.1)
    parts = [solid("building", (0, 0, z), rail, color) for z in (0.12, height - 0.03)]
    for x in np.arange(-length / 2, length / 2, rng.uniform(0.1, 0.25)):
        parts.append(solid("building", (x, 0, height / 2), bar_size, color))
    return joined(parts)


def container(rng: Rng) -> np.ndarray:
    """Build a skip, a container or a stack of material, of about a car's size."""
    length, width, height = rng.uniform((1.4, 1.1, 0.9), (5.0, 2.0, 2.4))
    paint = pick(rng, PAINTS)
    shape = TAPERED if rng.random() < 0.5 else BOX
    at, size = (0, 0, height / 2 + 0.05), (length, width, height)
    parts = [solid("pole", at, size, paint, shape, taper=(0.2, 0.2, 0.1))]
    for _ in range(rng.integers(0, 4)):  # what lies on it
        load = rng.uniform(0.2, 0.7, 3) * (1, 1, 0.6)
        x, y = rng.uniform(-0.3, 0.3, 2) * (length, width)
        color = rng.uniform(0.05, 0.5, 3)
        parts.append(solid("pole", (x, y, height + load[2] / 2), load, color))
    return joined(parts)


def heap(rng: Rng) -> np.ndarray:
    """Build a heap of earth, gravel or leaves."""
    brown = np.array([0.2, 0.15, 0.1]) * rng.uniform(0.5, 1.8)
    parts = []
    for _ in range(rng.integers(1, 4)):
        size = rng.uniform((1.0, 0.8, 0.5), (3.5, 2.2, 2.4))
        parts.append(solid("pole", (*rng.normal(0, 0.5, 2), 0), size, brown, ELLIPSOID))
    return joined(parts)


def cabinets(rng: Rng) -> np.ndarray:
    """Build a row of cabinets, wheeled bins or crates, each about a person's size or smaller."""
    parts, x = [], 0.0
    width, depth = rng.uniform(0.45, 1.2), rng.uniform(0.35, 0.55)
    height = rng.uniform(0.8, 1.8)
    color = rng.uniform(0.03, 0.5, 3)
    for _ in range(rng.integers(1, 5)):
        tall = height * rng.uniform(0.85, 1.1)
        parts.append(solid("pole", (x, 0, tall / 2), (width, depth, tall), color, BOX, PAINT))
        x += width * rng.uniform(1.02, 1.4)
        if rng.random() < 0.3:
            color = rng.uniform(0.03, 0.5, 3)
    return joined(parts)


def planter(rng: Rng) -> np.ndarray:
    """Build a tub with a plant as high as a person."""
    width, height = rng.uniform(0.35, 0.55), rng.uniform(0.3, 0.7)
    top = rng.uniform(0.3, 1.2)
    green = np.array([0.06, 0.1, 0.03]) * rng.uniform(0.6, 1.5)
    return joined(
        [
            solid("pole", (0, 0, height / 2), (width, width, height), CONCRETE, CYLINDER),
            solid(
                "vegetation",
                (0, 0, height + top / 2),
                (width * rng.uniform(0.6, 1.1), width * rng.uniform(0.6, 1.1), top),
                green,
                ELLIPSOID,
                FOLIAGE,
                warmth=-1.0,
            ),
        ]
    )


def posts(rng: Rng) -> np.ndarray:
    """Build a row of bollards, thick posts or advertising columns."""
    width, height = rng.uniform(0.1, 0.55), rng.uniform(0.7, 2.6)
    color = rng.uniform(0.05, 0.6, 3)
    gap = rng.uniform(0.9, 2.0)
    count = int(rng.integers(1, 5))
    return joined(
        [
            solid("pole", (gap * k, 0, height / 2), (width, width, height), color, CYLINDER)
            for k in range(count)
        ]
    )


def cones(rng: Rng) -> np.ndarray:
    """Build traffic cones in a line, and now and then a barrier board with them."""
    height, gap = rng.uniform(0.45, 0.9), rng.uniform(0.8, 2.0)
    orange = (0.7, 0.16, 0.03)
    parts = [
        solid(
            *("pole", (gap * k, rng.normal(0, 0.05), height / 2), (0.36, 0.36, height), orange),
            TAPERED,
            taper=(0.85, 0.85, 0.85),
        )
        for k in range(rng.integers(1, 6))
    ]
    if rng.random() < 0.4:
        length = rng.uniform(1.0, 2.5)
        board = ((0.7, 0.7, 0.7), (0.6, 0.03, 0.03))[rng.integers(2)]
        parts.append(solid("sign", (0, 0.1, 0.9), (length, 0.04, 0.25), board, BOX, RETRO))
        for x in (-length / 2, length / 2):
            parts.append(bar("pole", (x, 0.1, 0), (x, 0.1, 1.0), 0.05, GALVANISED))
    return joined(parts)


def bench(rng: Rng) -> np.ndarray:
    """Build a bench, a table or bicycle stands."""
    length, depth = rng.uniform(1.2, 2.4), rng.uniform(0.35, 0.55)
    seat = rng.uniform(0.4, 0.8)
    parts = [solid("pole", (0, 0, seat), (length, depth, 0.08), BARK)]
    if rng.random() < 0.6:
        parts.append(solid("pole", (0, depth / 2 - 0.04, seat + 0.3), (length, 0.05, 0.45), BARK))
    for x in (-0.4 * length, 0.4 * length):
        parts.append(solid("pole", (x, 0, seat / 2), (0.08, depth * 0.8, seat), GALVANISED))
    return joined(parts)


def shelter(rng: Rng) -> np.ndarray:
    """Build a shelter, a stall or a hut: a roof on posts, with or without walls."""
    length, depth, height = rng.uniform((1.5, 1.0, 2.0), (4.5, 2.2, 2.7))
    color = rng.uniform(0.05, 0.5, 3)
    parts = [solid("pole", (0, 0, height), (length, depth, 0.12), color)]
    for x in (-length / 2, length / 2):
        for y in (-depth / 2, depth / 2):
            parts.append(bar("pole", (x, y, 0), (x, y, height), 0.08, GALVANISED))
    if rng.random() < 0.6:
        size = (length, 0.05, height * rng.uniform(0.4, 1.0))
        parts.append(solid("pole", (0, depth / 2, size[2] / 2), size, color))
    if rng.random() < 0.3:
        size = (0.6 * length, 0.6 * depth, rng.uniform(0.7, 1.2))
        parts.append(solid("pole", (0, 0, size[2] / 2), size, rng.uniform(0.05, 0.5, 3)))
    return joined(parts)


KERB_MODELS = (cabinets, planter, posts, cones, bench, wall, posts, railing, railing)
GARDEN_MODELS = (bush, bush, bush, bush, wall, fence, fence, container, heap, cabinets, shelter)
BAY_MODELS = (container, container, heap, cones, shelter, bush, wall, planter)
ALL_MODELS = frozenset((*KERB_MODELS, *GARDEN_MODELS, *BAY_MODELS))
