"""Cars, trucks and buses. Body frame: x forward, y left, z up, origin on the ground."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lemumo_core.world.palette import (
    AMBER_LAMP,
    CABIN_K,
    DARK,
    ENGINE_K,
    PAINTS,
    PLATE,
    RED_LAMP,
    STEEL,
    TYRE,
    WHEEL_K,
    WHITE_LAMP,
    WINDOW,
    Color,
    Rng,
    pick,
)
from lemumo_core.world.solids import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    GLASS,
    LAMP,
    PAINT,
    RETRO,
    TAPERED,
    Triple,
    bar,
    joined,
    solid,
)

HEAVY = "large_vehicle"
Range = tuple[float, float]


class _Family(NamedTuple):
    """Ranges that the proportions of a family of cars are drawn from."""

    length: Range  # metres
    height: Range
    bonnet: Range  # shares of the length
    boot: Range


_FAMILIES = (
    _Family((3.7, 4.2), (1.42, 1.55), (0.17, 0.22), (0.0, 0.02)),  # hatchback
    _Family((4.4, 4.9), (1.38, 1.48), (0.24, 0.28), (0.16, 0.2)),  # saloon
    _Family((4.4, 4.9), (1.5, 1.8), (0.2, 0.26), (0.0, 0.03)),  # estate or off-roader
    _Family((4.7, 5.3), (1.85, 2.1), (0.08, 0.14), (0.0, 0.01)),  # van
)


def car(shape: Rng, rng: Rng, moving: bool) -> np.ndarray:
    """Build a hatchback, saloon, estate or van, ``SOLID`` (P,)."""
    family = _FAMILIES[shape.integers(len(_FAMILIES))]
    length, height = shape.uniform(*family.length), shape.uniform(*family.height)
    width, floor = shape.uniform(1.7, 1.92), shape.uniform(0.16, 0.24)
    belt = height * shape.uniform(0.55, 0.62)
    bonnet = length * shape.uniform(*family.bonnet)
    boot = length * shape.uniform(*family.boot)
    rake, back = shape.uniform(1.1, 1.4), shape.uniform(0.3, 0.8)
    paint = pick(rng, PAINTS)
    engine_k = ENGINE_K * rng.uniform(0.5, 1) * moving
    half_l, half_w = length / 2, width / 2

    lid = (half_l - bonnet / 2 - 0.1, belt + 0.01, belt - 0.41)
    cabin = length - bonnet - boot
    steepness = (height - belt) / (cabin / 2)
    taper = (min(rake * steepness, 0.9), min(back * steepness, 0.8), 0.2)
    middle = (boot - bonnet) / 2
    parts = [
        _shell(
            "car", (0, belt, floor), (length - 0.1, width), paint, (0.03, 0.03, 0.05), engine_k / 10
        ),
        solid("car", (0, 0, floor + 0.12), (length, width - 0.08, 0.22), DARK, BOX, PAINT),
        _shell("car", lid, (bonnet, width - 0.3), paint, (0.12, 0, 0.12), engine_k),
        solid("car", (half_l - 0.02, 0, 0.5), (0.06, width * 0.5, 0.18), DARK),
        *_cabin((middle, belt), (cabin, width - 0.06, height - belt), taper, paint),
        *_wheels("car", (0.32 * length, -0.31 * length), half_w, shape.uniform(0.3, 0.36), moving),
        *_lamps("car", half_l - 0.06, -half_l + 0.05, half_w, belt - 0.22),
    ]
    at = middle + cabin * (0.5 - taper[0] * 0.25)
    for side in (-1, 1):
        mirror = (at, side * (half_w + 0.03), belt + 0.08)
        parts.append(solid("car", mirror, (0.12, 0.2, 0.14), paint, ELLIPSOID, PAINT))
    return joined(parts)


def _cabin(at: tuple[float, float], size: Triple, taper: Triple, paint: Color) -> list[np.ndarray]:
    """Build glass under a painted roof on six painted pillars.

    Args:
        at: x of its middle and z of its floor.
        size: of glass and roof together, as of ``solid``.
        taper: likewise.
        paint: of roof and pillars.
    """
    x, z = at
    length, width, height = size
    roof = 0.14  # share of the height

    def edge(s: float, end: int) -> float:
        """Return x of the front (end 1) or rear (end -1) face at a share of the height."""
        return x + end * length / 2 * (1 - taper[0 if end > 0 else 1] * s)

    def half_width(s: float) -> float:
        return width / 2 * (1 - taper[2] * s)

    def slab(low: float, high: float, color: Color, material: int, warmth: float) -> np.ndarray:
        """Build the part of the tapered box between two shares of its height."""
        front, rear, half = edge(low, 1), edge(low, -1), half_width(low)
        half_length = (front - rear) / 2
        lean = (
            (front - edge(high, 1)) / half_length,
            (edge(high, -1) - rear) / half_length,
            1 - half_width(high) / half,
        )
        center = ((front + rear) / 2, 0, z + height * (low + high) / 2)
        extents = (2 * half_length, 2 * half, height * (high - low))
        return solid("car", center, extents, color, TAPERED, material, taper=lean, warmth=warmth)

    parts = [
        slab(0.0, 1 - roof, WINDOW, GLASS, CABIN_K),
        slab(1 - roof, 1.0, paint, PAINT, CABIN_K / 2),
    ]
    top = 1 - roof / 2
    for side in (-1, 1):
        for end, inward in ((1, 0.0), (-1, 0.0), (1, 0.55)):  # windscreen, rear window, doors
            foot = edge(0, end) - end * inward * length
            head = min(edge(top, 1), max(edge(top, -1), foot)) if inward else edge(top, end)
            low = (foot, side * (half_width(0) - 0.02), z)
            high = (head, side * (half_width(top) - 0.02), z + height * top)
            parts.append(bar("car", low, high, 0.09, paint, PAINT))
    return parts


def truck(shape: Rng, rng: Rng, moving: bool) -> np.ndarray:
    """Build a box truck, flat bed or tanker, ``SOLID`` (P,)."""
    length, width = shape.uniform(6.2, 10.5), shape.uniform(2.2, 2.5)
    cab, cab_h = shape.uniform(1.7, 2.2), shape.uniform(2.4, 3.0)
    box_h = shape.uniform(3.0, 3.7)
    kind = int(shape.integers(3))
    paint, body = pick(rng, PAINTS), pick(rng, ((0.7, 0.7, 0.7), *PAINTS))
    engine_k = ENGINE_K * moving
    half_l, half_w = length / 2, width / 2
    load = length - cab - 0.25
    at = -half_l + load / 2
    parts = [
        _shell(
            HEAVY, (half_l - cab / 2, cab_h, 0.5), (cab, width), paint, (0.14, 0, 0.04), CABIN_K
        ),
        _pane((half_l - 0.13, 0, cab_h * 0.72), (0.08, width * 0.86, cab_h * 0.3)),
        solid(HEAVY, (0, 0, 0.75), (length - 0.3, width * 0.5, 0.3), DARK),
        solid(HEAVY, (half_l - 0.05, 0, 0.55), (0.12, width, 0.3), DARK, warmth=engine_k),
        *_truck_load(kind, at, load, width, box_h, body),
        *_wheels(
            HEAVY,
            (half_l - cab * 0.55, -half_l + load * 0.16, -half_l + load * 0.16 + 1.15),
            half_w,
            0.48,
            moving,
        ),
        *_lamps(HEAVY, half_l, -half_l, half_w, 0.85),
    ]
    for side in (-1, 1):
        window = (half_l - cab * 0.45, side * (half_w - 0.01), cab_h * 0.72)
        mirror = (half_l - 0.1, side * (half_w + 0.05), cab_h * 0.7)
        parts.append(_pane(window, (cab * 0.5, 0.06, cab_h * 0.27)))
        parts.append(solid(HEAVY, mirror, (0.1, 0.16, 0.45), DARK))
    return joined(parts)


def _truck_load(
    kind: int, at: float, length: float, width: float, top: float, body: Color
) -> list[np.ndarray]:
    """Build a box body (0), a flat bed with sides (1) or a tank (2).

    Args:
        kind: which.
        at: x of its middle.
        length: metres.
        width: metres.
        top: height of its upper edge, metres.
        body: colour.
    """
    rear = at - length / 2
    if kind == 0:
        z = (1 + top) / 2
        return [
            solid(HEAVY, (at, 0, z), (length, width, top - 1), body, BOX, PAINT),
            solid(HEAVY, (rear - 0.01, 0, z), (0.04, 0.05, top - 1.2), DARK),
        ]
    if kind == 1:
        goods = (length * 0.8, width * 0.75, 0.9)
        return [
            solid(HEAVY, (at, 0, 1.05), (length, width, 0.2), DARK),
            *(
                solid(HEAVY, (at, y, 1.5), (length, 0.08, 0.8), body, BOX, PAINT)
                for y in (0.04 - width / 2, width / 2 - 0.04)
            ),
            solid(HEAVY, (rear + 0.04, 0, 1.5), (0.08, width, 0.8), body, BOX, PAINT),
            solid(HEAVY, (at, 0, 1.6), goods, (0.3, 0.24, 0.16), ELLIPSOID),
        ]
    tank = (width, top - 1.2, length)  # along its own axes: body y, z and x
    return [solid(HEAVY, (at, 0, 0.4 + top / 2), tank, STEEL, CYLINDER, PAINT, axis="x")]


def bus(shape: Rng, rng: Rng, moving: bool) -> np.ndarray:
    """Build a city bus, ``SOLID`` (P,)."""
    length, width = shape.uniform(9.5, 12.5), shape.uniform(2.4, 2.55)
    height, skirt = shape.uniform(2.9, 3.2), shape.uniform(0.2, 0.4)
    half_l, half_w = length / 2, width / 2
    paint, band = pick(rng, PAINTS), pick(rng, PAINTS)
    engine_k, sign = ENGINE_K * moving, (0.1, width * 0.6, 0.22)
    parts = [
        _shell(HEAVY, (0, height, 0.35), (length, width), paint, (0.02, 0.01, 0.04), CABIN_K),
        solid(HEAVY, (0, 0, 0.8), (length + 0.02, width + 0.02, skirt), band, BOX, PAINT),
        _pane((half_l - 0.05, 0, height * 0.58), (0.08, width * 0.9, height * 0.45)),
        _pane((-half_l + 0.04, 0, height * 0.68), (0.08, width * 0.7, height * 0.25)),
        solid(HEAVY, (-half_l + 0.6, 0, 0.7), (1.0, width + 0.01, 0.5), DARK, warmth=engine_k),
        solid(HEAVY, (half_l - 0.08, 0, height - 0.2), sign, AMBER_LAMP, BOX, LAMP),
        *_wheels(HEAVY, (0.28 * length, -0.25 * length), half_w, 0.48, moving),
        *_lamps(HEAVY, half_l, -half_l, half_w, 0.75),
    ]
    count = int(length / 1.55)
    pitch = (length - 1.0) / count
    pane = (pitch - 0.14, 0.07, height * 0.32)
    for side in (-1, 1):
        for k in range(count):
            at = (-half_l + 0.5 + (k + 0.5) * pitch, side * (half_w - 0.04), height * 0.66)
            parts.append(_pane(at, pane))
    return joined(parts)


def _shell(
    label: str, at: Triple, size: tuple[float, float], paint: Color, taper: Triple, warmth: float
) -> np.ndarray:
    """Build a painted tapered box; at = x of its middle, z of its top and bottom."""
    x, top, bottom = at
    center, full = (x, 0, (top + bottom) / 2), (*size, top - bottom)
    return solid(label, center, full, paint, TAPERED, PAINT, taper=taper, warmth=warmth)


def _pane(center: Triple, size: Triple) -> np.ndarray:
    """Build a window of a truck or a bus."""
    return solid(HEAVY, center, size, WINDOW, BOX, GLASS)


def _wheels(
    label: str, xs: tuple[float, ...], half_width: float, radius: float, moving: bool
) -> list[np.ndarray]:
    parts = []
    tyre, hub = (2 * radius, 2 * radius, 0.22), (1.2 * radius, 1.2 * radius, 0.235)
    for x in xs:
        for side in (-1, 1):
            at = (x, side * (half_width - 0.1), radius)
            warmth = WHEEL_K * moving
            parts.append(solid(label, at, tyre, TYRE, CYLINDER, axis="y", warmth=warmth))
            parts.append(solid(label, at, hub, STEEL, CYLINDER, PAINT, axis="y"))
    return parts


def _lamps(label: str, front: float, rear: float, half_width: float, z: float) -> list[np.ndarray]:
    """Build headlights, rear lights and number plates."""
    parts = []
    for side in (-1, 1):
        y = side * half_width * 0.74
        parts.append(solid(label, (front, y, z), (0.1, 0.34, 0.13), WHITE_LAMP, BOX, LAMP))
        parts.append(solid(label, (rear, y, z + 0.1), (0.08, 0.3, 0.15), RED_LAMP, BOX, LAMP))
    for x in (front, rear):
        parts.append(solid(label, (x, 0, 0.42), (0.06, 0.5, 0.12), PLATE, BOX, RETRO))
    return parts
