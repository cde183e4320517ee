"""What moves on the street: cars, trucks, buses, motorcycles, cyclists and pedestrians.

A split has its own catalogue of models, drawn from the same families with other proportions, so
that nobody is tested on the very shapes they learned from. Body frame: x forward, y left, z up,
origin on the ground.
"""

from __future__ import annotations

import functools

import numpy as np

from lemumo_core.data.world.solids import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    GLASS,
    LAMP,
    PAINT,
    RETRO,
    TAPERED,
    solid,
)
from lemumo_core.taxonomy import SEGMENTATION_IDS

SPLITS = ("train", "val", "test")
MODELS_PER_CLASS = 8
Rng = np.random.Generator

TYRE, STEEL, DARK = (0.02, 0.02, 0.02), (0.35, 0.36, 0.38), (0.035, 0.035, 0.04)
WINDOW = (0.03, 0.04, 0.05)
WHITE_LAMP, RED_LAMP = (0.95, 0.93, 0.85), (0.7, 0.02, 0.02)
PAINTS = (
    *((0.75, 0.75, 0.76), (0.5, 0.51, 0.52), (0.18, 0.19, 0.2), (0.02, 0.02, 0.025)),
    *((0.4, 0.02, 0.02), (0.02, 0.06, 0.25), (0.03, 0.12, 0.07), (0.45, 0.36, 0.2)),
    *((0.6, 0.3, 0.03), (0.55, 0.58, 0.62), (0.12, 0.15, 0.22)),
)
SKINS = ((0.55, 0.36, 0.26), (0.35, 0.2, 0.13), (0.62, 0.45, 0.35), (0.15, 0.09, 0.06))
ENGINE_K, WHEEL_K, BODY_K, CABIN_K = 25.0, 14.0, 12.0, 4.0
"""Warmth above the surroundings of a running engine, tyres, clothed people and a car's cabin."""


def build(label: str, model: int, split: str, rng: Rng) -> np.ndarray:
    """One object.

    Args:
        label: a detection class.
        model: which of the catalogue's ``MODELS_PER_CLASS``.
        split: one of ``SPLITS``.
        rng: of what varies between two of one model: paint, clothes, pose.

    Returns:
        ``SOLID`` (P,), body frame.
    """
    shape = np.random.default_rng(_seed(label, model, split))
    return _BUILDERS[label](shape, rng)


@functools.cache
def _seed(label: str, model: int, split: str) -> tuple[int, ...]:
    return (77, sorted(_BUILDERS).index(label), SPLITS.index(split), model)


def _pick(rng: Rng, options: tuple) -> tuple:
    return options[rng.integers(len(options))]


def _wheels(xs: tuple[float, ...], half_width: float, radius: float) -> list[np.ndarray]:
    parts = []
    for x in xs:
        for side in (-1, 1):
            y = side * (half_width - 0.1)
            size, hub = (2 * radius, 2 * radius, 0.22), (radius, radius, 0.235)
            place = (x, y, radius)
            parts.append(solid("car", place, size, TYRE, CYLINDER, axis="y", warmth=WHEEL_K))
            parts.append(solid("car", place, hub, STEEL, CYLINDER, PAINT, axis="y"))
    return parts


def _lamps(front: float, rear: float, half_width: float, z: float) -> list[np.ndarray]:
    parts = []
    for side in (-1, 1):
        y = side * half_width * 0.74
        parts.append(solid("car", (front, y, z), (0.1, 0.34, 0.13), WHITE_LAMP, BOX, LAMP))
        parts.append(solid("car", (rear, y, z + 0.1), (0.08, 0.3, 0.15), RED_LAMP, BOX, LAMP))
    for x in (front, rear):
        parts.append(solid("car", (x, 0, 0.42), (0.06, 0.5, 0.12), (0.8, 0.8, 0.78), BOX, RETRO))
    return parts


def _car(shape: Rng, rng: Rng) -> np.ndarray:
    family = shape.integers(4)  # hatchback, saloon, estate or SUV, van
    length = shape.uniform(*((3.7, 4.2), (4.4, 4.9), (4.4, 4.9), (4.7, 5.3))[family])
    width = shape.uniform(1.7, 1.92)
    height = shape.uniform(*((1.42, 1.55), (1.38, 1.48), (1.5, 1.8), (1.85, 2.1))[family])
    floor, belt = shape.uniform(0.16, 0.24), height * shape.uniform(0.55, 0.62)
    bonnet = length * shape.uniform(
        *((0.17, 0.22), (0.24, 0.28), (0.2, 0.26), (0.08, 0.14))[family]
    )
    boot = length * shape.uniform(*((0.0, 0.02), (0.16, 0.2), (0.0, 0.03), (0.0, 0.01))[family])
    radius = shape.uniform(0.3, 0.36)
    paint = _pick(rng, PAINTS)
    half_l, half_w = length / 2, width / 2
    cabin = length - bonnet - boot
    middle = (boot - bonnet) / 2
    rake, back = 1.25 * (height - belt) / (cabin / 2), shape.uniform(0.3, 0.8)
    lean = (min(rake, 0.9), min(back * (height - belt) / (cabin / 2) * 1.2, 0.8), 0.2)
    parts = [
        solid(
            "car",
            (0, 0, (floor + belt) / 2),
            (length - 0.1, width, belt - floor),
            paint,
            TAPERED,
            PAINT,
            taper=(0.03, 0.03, 0.05),
            warmth=2.0,
        ),
        solid("car", (0, 0, floor + 0.12), (length, width - 0.08, 0.22), DARK, BOX, PAINT),
        solid(
            "car",
            (middle, 0, (belt + height) / 2),
            (cabin, width - 0.06, height - belt),
            WINDOW,
            TAPERED,
            GLASS,
            taper=lean,
            warmth=CABIN_K,
        ),
        # Roof and pillars: a slightly smaller cabin that shows above and at the corners.
        solid(
            "car",
            (middle, 0, height - 0.03),
            (
                cabin * (1 - (lean[0] + lean[1]) / 2) * 0.98,
                (width - 0.06) * (1 - lean[2]) * 0.99,
                0.07,
            ),
            paint,
            BOX,
            PAINT,
        ),
        solid(
            "car",
            (half_l - bonnet / 2 - 0.1, 0, belt - 0.2),
            (bonnet, width - 0.3, 0.42),
            paint,
            TAPERED,
            PAINT,
            taper=(0.12, 0.0, 0.12),
            warmth=ENGINE_K * rng.uniform(0, 1),
        ),
        solid("car", (half_l - 0.02, 0, 0.5), (0.06, width * 0.5, 0.18), DARK),
    ]
    for side in (-1, 1):
        x = middle + cabin * (0.5 - lean[0] * 0.5)
        parts.append(
            solid(
                "car",
                (x, side * (half_w + 0.05), belt + 0.08),
                (0.12, 0.2, 0.14),
                paint,
                ELLIPSOID,
                PAINT,
            )
        )
        parts.append(
            solid(
                "car",
                (middle - 0.05, side * (half_w - 0.12), (belt + height) / 2 - 0.05),
                (0.09, 0.06, height - belt - 0.1),
                paint,
                BOX,
                PAINT,
            )
        )
    axles = (half_l - length * 0.18, -half_l + length * 0.19)
    parts += _wheels(axles, half_w, radius)
    parts += _lamps(half_l - 0.06, -half_l + 0.05, half_w, belt - 0.22)
    return np.concatenate(parts)


def _truck(shape: Rng, rng: Rng) -> np.ndarray:
    length, width = shape.uniform(6.2, 10.5), shape.uniform(2.2, 2.5)
    cab, cab_h = shape.uniform(1.7, 2.2), shape.uniform(2.4, 3.0)
    box_h = shape.uniform(3.0, 3.7)
    half_l, half_w = length / 2, width / 2
    load = length - cab - 0.25
    kind = shape.integers(3)  # box body, flat bed with sides, tanker
    paint, body = _pick(rng, PAINTS), _pick(rng, ((0.7, 0.7, 0.7), *PAINTS))
    at = -half_l + load / 2
    L = "large_vehicle"
    parts = [
        solid(
            L,
            (half_l - cab / 2, 0, 0.5 + (cab_h - 0.5) / 2),
            (cab, width, cab_h - 0.5),
            paint,
            TAPERED,
            PAINT,
            taper=(0.14, 0, 0.04),
            warmth=CABIN_K,
        ),
        solid(
            L,
            (half_l - 0.09, 0, cab_h * 0.72),
            (0.08, width * 0.86, cab_h * 0.3),
            WINDOW,
            TAPERED,
            GLASS,
            taper=(0, 0, 0.05),
        ),
        solid(L, (0, 0, 0.75), (length - 0.3, width * 0.5, 0.3), DARK),
        solid(L, (half_l - 0.05, 0, 0.55), (0.12, width, 0.3), DARK, warmth=ENGINE_K),
    ]
    for side in (-1, 1):
        parts.append(
            solid(
                L,
                (half_l - cab * 0.45, side * (half_w - 0.01), cab_h * 0.72),
                (cab * 0.5, 0.06, cab_h * 0.27),
                WINDOW,
                BOX,
                GLASS,
            )
        )
        parts.append(
            solid(L, (half_l - 0.1, side * (half_w + 0.14), cab_h * 0.7), (0.1, 0.22, 0.45), DARK)
        )
    if kind == 0:
        parts.append(
            solid(L, (at, 0, 1 + (box_h - 1) / 2), (load, width, box_h - 1), body, BOX, PAINT)
        )
        parts.append(
            solid(L, (-half_l - 0.01, 0, 1 + (box_h - 1) / 2), (0.04, 0.05, box_h - 1.2), DARK)
        )
    elif kind == 1:
        parts.append(solid(L, (at, 0, 1.05), (load, width, 0.2), DARK))
        for side in (-1, 1):
            parts.append(
                solid(L, (at, side * (half_w - 0.04), 1.5), (load, 0.08, 0.8), body, BOX, PAINT)
            )
        parts.append(solid(L, (-half_l + 0.04, 0, 1.5), (0.08, width, 0.8), body, BOX, PAINT))
        parts.append(
            solid(L, (at, 0, 1.6), (load * 0.8, width * 0.75, 0.9), (0.3, 0.24, 0.16), ELLIPSOID)
        )
    else:
        parts.append(
            solid(
                L,
                (at, 0, 1 + (box_h - 1.2) / 2),
                (box_h - 1.2, width, load),
                STEEL,
                CYLINDER,
                PAINT,
                axis="x",
            )
        )
    axles = (half_l - cab * 0.55, -half_l + load * 0.16, -half_l + load * 0.16 + 1.15)
    parts += _wheels(axles, half_w, 0.48)
    parts += _lamps(half_l, -half_l, half_w, 0.85)
    return _as(parts, L)


def _bus(shape: Rng, rng: Rng) -> np.ndarray:
    length, width, height = (
        shape.uniform(9.5, 12.5),
        shape.uniform(2.4, 2.55),
        shape.uniform(2.9, 3.2),
    )
    half_l, half_w = length / 2, width / 2
    paint, band = _pick(rng, PAINTS), _pick(rng, PAINTS)
    L = "large_vehicle"
    parts = [
        solid(
            L,
            (0, 0, 0.35 + (height - 0.35) / 2),
            (length, width, height - 0.35),
            paint,
            TAPERED,
            PAINT,
            taper=(0.02, 0.01, 0.04),
            warmth=CABIN_K,
        ),
        solid(
            L, (0, 0, 0.8), (length + 0.02, width + 0.02, shape.uniform(0.2, 0.4)), band, BOX, PAINT
        ),
        solid(
            L,
            (half_l - 0.02, 0, height * 0.6),
            (0.08, width * 0.9, height * 0.45),
            WINDOW,
            BOX,
            GLASS,
        ),
        solid(
            L,
            (-half_l + 0.02, 0, height * 0.68),
            (0.08, width * 0.7, height * 0.25),
            WINDOW,
            BOX,
            GLASS,
        ),
        solid(L, (-half_l + 0.6, 0, 0.7), (1.0, width + 0.01, 0.5), DARK, warmth=ENGINE_K),
        solid(
            L,
            (half_l - 0.03, 0, height - 0.25),
            (0.1, width * 0.6, 0.24),
            (0.8, 0.45, 0.02),
            BOX,
            LAMP,
        ),
    ]
    count = int(length / 1.55)
    pitch = (length - 1.0) / count
    for side in (-1, 1):
        for k in range(count):
            x = -half_l + 0.5 + (k + 0.5) * pitch
            parts.append(
                solid(
                    L,
                    (x, side * (half_w - 0.02), height * 0.66),
                    (pitch - 0.14, 0.07, height * 0.32),
                    WINDOW,
                    BOX,
                    GLASS,
                )
            )
    parts += _wheels((half_l - length * 0.22, -half_l + length * 0.25), half_w, 0.48)
    parts += _lamps(half_l, -half_l, half_w, 0.75)
    return _as(parts, L)


def _person(
    label: str, shape: Rng, rng: Rng, seat: float | None = None, lean: float = 0.0
) -> list[np.ndarray]:
    """Somebody who walks or stands, or sits with the hip at height ``seat``."""
    tall, stout = shape.uniform(1.55, 1.92), shape.uniform(0.85, 1.2)
    top, legs, skin = rng.uniform(0.02, 0.6, 3), rng.uniform(0.01, 0.25, 3), _pick(rng, SKINS)
    hair = _pick(rng, ((0.02, 0.015, 0.01), (0.1, 0.06, 0.03), (0.3, 0.2, 0.08), (0.4, 0.4, 0.4)))
    hip = tall * 0.48 if seat is None else seat
    torso, reach = tall * 0.3, tall * 0.35
    shift = np.sin(lean) * torso
    parts = [
        solid(
            label,
            (shift / 2, 0, hip + torso / 2 * np.cos(lean)),
            (0.24 * stout, 0.4 * stout, torso * 1.15),
            top,
            ELLIPSOID,
            pitch=lean,
            warmth=BODY_K,
        ),
        solid(
            label,
            (shift * 0.9, 0, hip + torso * 0.82),
            (0.22 * stout, 0.44 * stout, 0.2),
            top,
            ELLIPSOID,
            warmth=BODY_K,
        ),
        solid(
            label, (0, 0, hip), (0.24 * stout, 0.34 * stout, 0.26), legs, ELLIPSOID, warmth=BODY_K
        ),
        solid(
            label,
            (shift * 1.15 + 0.01, 0, hip + torso + tall * 0.115),
            (0.2, 0.16, 0.24),
            skin,
            ELLIPSOID,
            warmth=BODY_K + 4,
        ),
        solid(
            label,
            (shift * 1.15 - 0.02, 0, hip + torso + tall * 0.135),
            (0.21, 0.18, 0.22),
            hair,
            ELLIPSOID,
            warmth=BODY_K,
        ),
    ]
    stride = rng.uniform(-0.45, 0.45)
    for side in (-1, 1):
        if seat is None:
            swing = side * stride
            foot = np.sin(swing) * hip
            parts.append(
                solid(
                    label,
                    (-foot / 2, side * 0.09 * stout, hip / 2),
                    (0.15, 0.15, hip),
                    legs,
                    CYLINDER,
                    pitch=swing,
                    warmth=BODY_K,
                )
            )
            parts.append(
                solid(
                    label,
                    (-foot + 0.06, side * 0.09 * stout, 0.05),
                    (0.27, 0.1, 0.1),
                    DARK,
                    ELLIPSOID,
                )
            )
        else:
            knee = 0.42 + 0.1 * side * np.sign(stride)
            parts.append(
                solid(
                    label,
                    (0.2, side * 0.11, (hip + knee) / 2 + 0.04),
                    (0.14, 0.14, 0.46),
                    legs,
                    CYLINDER,
                    pitch=1.0,
                    warmth=BODY_K,
                )
            )
            parts.append(
                solid(
                    label,
                    (0.33, side * 0.12, (knee + 0.3) / 2),
                    (0.12, 0.12, 0.42),
                    legs,
                    CYLINDER,
                    pitch=-0.2,
                    warmth=BODY_K,
                )
            )
        swing = -side * stride * 0.9 if seat is None else -0.9
        x = shift * 0.8 - np.sin(swing) * reach / 2
        parts.append(
            solid(
                label,
                (x, side * 0.25 * stout, hip + torso * 0.92 - np.cos(swing) * reach / 2),
                (0.1, 0.1, reach),
                top,
                CYLINDER,
                pitch=swing,
                warmth=BODY_K,
            )
        )
    return parts


def _pedestrian(shape: Rng, rng: Rng) -> np.ndarray:
    parts = _person("pedestrian", shape, rng)
    if shape.random() < 0.35:  # a rucksack
        parts.append(
            solid(
                "pedestrian", (-0.2, 0, 1.2), (0.2, 0.3, 0.42), rng.uniform(0.02, 0.5, 3), ELLIPSOID
            )
        )
    return np.concatenate(parts)


def _bicycle(shape: Rng, rng: Rng) -> np.ndarray:
    L, radius = "two_wheeler", shape.uniform(0.31, 0.36)
    base, paint = shape.uniform(0.98, 1.12), _pick(rng, PAINTS)
    parts = [
        *(
            solid(L, (x, 0, radius), (2 * radius, 2 * radius, 0.05), TYRE, CYLINDER, axis="y")
            for x in (-base / 2, base / 2)
        ),
        solid(L, (0, 0, 0.58), (0.05, 0.05, base * 0.7), paint, CYLINDER, PAINT, axis="x"),
        solid(L, (-0.2, 0, 0.55), (0.05, 0.05, 0.7), paint, CYLINDER, PAINT, pitch=-0.3),
        solid(
            L, (base / 2 - 0.07, 0, 0.66), (0.05, 0.05, 0.75), paint, CYLINDER, PAINT, pitch=-0.3
        ),
        solid(L, (base / 2 - 0.17, 0, 1.02), (0.05, 0.05, 0.55), DARK, CYLINDER, axis="y"),
        solid(L, (-0.28, 0, 0.92), (0.26, 0.16, 0.08), DARK, ELLIPSOID),
    ]
    rider = _person(L, shape, rng, seat=0.98, lean=shape.uniform(0.2, 0.6))
    for part in rider:
        part["centre"][:, 0] -= 0.22
    return np.concatenate([*parts, *rider])


def _motorcycle(shape: Rng, rng: Rng) -> np.ndarray:
    L, radius = "two_wheeler", shape.uniform(0.28, 0.33)
    base, paint = shape.uniform(1.3, 1.5), _pick(rng, PAINTS)
    parts = [
        *(
            solid(
                L,
                (x, 0, radius),
                (2 * radius, 2 * radius, 0.15),
                TYRE,
                CYLINDER,
                axis="y",
                warmth=WHEEL_K,
            )
            for x in (-base / 2, base / 2)
        ),
        solid(L, (-0.02, 0, 0.5), (0.6, 0.28, 0.42), STEEL, TAPERED, PAINT, warmth=ENGINE_K),
        solid(L, (0.16, 0, 0.83), (0.55, 0.32, 0.3), paint, ELLIPSOID, PAINT),
        solid(L, (-0.4, 0, 0.8), (0.7, 0.28, 0.14), DARK, ELLIPSOID),
        solid(L, (-0.62, 0, 0.68), (0.35, 0.22, 0.22), paint, ELLIPSOID, PAINT),
        solid(L, (base / 2 - 0.12, 0, 0.68), (0.08, 0.14, 0.8), STEEL, CYLINDER, PAINT, pitch=-0.4),
        solid(L, (0.42, 0, 0.98), (0.3, 0.36, 0.34), paint, ELLIPSOID, PAINT),
        solid(L, (0.32, 0, 1.05), (0.06, 0.06, 0.75), DARK, CYLINDER, axis="y"),
        solid(L, (0.58, 0, 0.95), (0.06, 0.16, 0.14), WHITE_LAMP, ELLIPSOID, LAMP),
        solid(L, (-0.82, 0, 0.74), (0.05, 0.14, 0.08), RED_LAMP, BOX, LAMP),
    ]
    rider = _person(L, shape, rng, seat=0.84, lean=shape.uniform(0.15, 0.5))
    for part in rider:
        part["centre"][:, 0] -= 0.32
    helmet = rider[3]["centre"][0] + (0, 0, 0.02)
    parts.append(solid(L, helmet, (0.3, 0.26, 0.3), _pick(rng, PAINTS), ELLIPSOID, PAINT))
    return np.concatenate([*parts, *rider])


def _as(parts: list[np.ndarray], label: str) -> np.ndarray:
    """All parts with the label of one class."""
    model = np.concatenate(parts)
    model["label"] = SEGMENTATION_IDS[label]
    return model


_BUILDERS = {
    "car": _car,
    "truck": _truck,
    "bus": _bus,
    "motorcycle": _motorcycle,
    "bicycle": _bicycle,
    "pedestrian": _pedestrian,
}
