"""People, on foot and on two wheels. Body frame: x forward, y left, z up, origin on the ground."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lemumo_core.world.palette import (
    BODY_K,
    DARK,
    ENGINE_K,
    HAIRS,
    PAINTS,
    RED_LAMP,
    SKIN_K,
    SKINS,
    STEEL,
    TYRE,
    WHEEL_K,
    WHITE_LAMP,
    Color,
    Rng,
    cloth,
    pick,
)
from lemumo_core.world.solids import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    LAMP,
    PAINT,
    bar,
    joined,
    solid,
)

RIDDEN = "two_wheeler"
Point = tuple[float, float, float]


class Posture(NamedTuple):
    """Joints of a body, metres.

    hip: x and z of the hips. lean: of the back, radians forward. feet: the right one, then the left
    one. hands: likewise.
    """

    hip: tuple[float, float]
    lean: float
    feet: tuple[Point, ...]
    hands: tuple[Point, ...]


def pedestrian(shape: Rng, rng: Rng, moving: bool) -> np.ndarray:
    """Build a pedestrian who walks or stands, ``SOLID`` (P,)."""
    tall, stout = _build(shape)
    stride = rng.uniform(0.15, 0.38) * rng.choice([-1, 1]) if moving else rng.uniform(0, 0.06)
    hip, reach = tall * 0.48, tall * 0.33
    shoulder = hip + tall * 0.3
    feet = tuple((-side * stride, side * 0.09 * stout, 0.08) for side in (-1, 1))
    swing = 0.7 * stride
    hands = tuple(
        (side * swing, side * 0.25 * stout, shoulder - math.sqrt(reach**2 - swing**2))
        for side in (-1, 1)
    )
    posture = Posture((0.0, hip), 0.03, feet, hands)
    parts = _person("pedestrian", (tall, stout), rng, posture)
    if shape.random() < 0.35:
        rucksack = (-0.19, 0, shoulder - 0.2)
        size = (0.2, 0.3, 0.42)
        parts.append(solid("pedestrian", rucksack, size, cloth(rng, 0.5), ELLIPSOID))
    return joined(parts)


def bicycle(shape: Rng, rng: Rng, _moving: bool) -> np.ndarray:
    """Build a cyclist, ``SOLID`` (P,)."""
    radius, base, paint = shape.uniform(0.31, 0.36), shape.uniform(0.98, 1.12), pick(rng, PAINTS)
    lean = shape.uniform(0.25, 0.6)
    rear, front = (-base / 2, 0.0, radius), (base / 2, 0.0, radius)
    pedals, saddle, head = (-0.08, 0.0, 0.3), (-0.27, 0.0, 0.9), (base / 2 - 0.17, 0.0, 0.86)
    grip = (base / 2 - 0.14, 1.03)
    crank = rng.uniform(-math.pi, math.pi)
    frame = ((pedals, saddle), (saddle, head), (pedals, head), (head, front), (pedals, rear))
    parts = [
        *(_wheel(at, radius, 0.05) for at in (rear, front)),
        *(bar(RIDDEN, a, b, 0.05, paint, PAINT) for a, b in (*frame, (saddle, rear))),
        bar(RIDDEN, (grip[0], -0.28, grip[1]), (grip[0], 0.28, grip[1]), 0.05, DARK),
        solid(RIDDEN, (-0.28, 0, 0.92), (0.26, 0.16, 0.08), DARK, ELLIPSOID),
    ]
    feet = tuple(
        (
            pedals[0] + side * 0.17 * math.cos(crank),
            side * 0.12,
            pedals[2] + side * 0.17 * math.sin(crank),
        )
        for side in (-1, 1)
    )
    hands = tuple((grip[0], side * 0.25, grip[1]) for side in (-1, 1))
    posture = Posture((-0.27, 1.0), lean, feet, hands)
    return joined([*parts, *_person(RIDDEN, _build(shape), rng, posture)])


def motorcycle(shape: Rng, rng: Rng, moving: bool) -> np.ndarray:
    """Build a motorcycle or scooter with its rider, ``SOLID`` (P,)."""
    radius, base, paint = shape.uniform(0.28, 0.33), shape.uniform(1.3, 1.5), pick(rng, PAINTS)
    lean, body = shape.uniform(0.1, 0.45), _build(shape)
    rear, front = (-base / 2, 0.0, radius), (base / 2, 0.0, radius)
    grip, engine_k = (0.34, 1.06), ENGINE_K * moving
    parts = [
        *(_wheel(at, radius, 0.15, WHEEL_K * moving) for at in (rear, front)),
        solid(RIDDEN, (-0.02, 0, 0.5), (0.6, 0.28, 0.42), STEEL, BOX, PAINT, warmth=engine_k),
        solid(RIDDEN, (0.16, 0, 0.83), (0.55, 0.32, 0.3), paint, ELLIPSOID, PAINT),
        solid(RIDDEN, (-0.4, 0, 0.8), (0.7, 0.28, 0.14), DARK, ELLIPSOID),
        solid(RIDDEN, (-0.62, 0, 0.68), (0.35, 0.22, 0.22), paint, ELLIPSOID, PAINT),
        *(
            bar(RIDDEN, (front[0], y, radius), (0.4, y, 1.0), 0.06, STEEL, PAINT)
            for y in (-0.1, 0.1)
        ),
        solid(RIDDEN, (0.42, 0, 0.98), (0.3, 0.36, 0.34), paint, ELLIPSOID, PAINT),
        bar(RIDDEN, (grip[0], -0.38, grip[1]), (grip[0], 0.38, grip[1]), 0.06, DARK),
        solid(RIDDEN, (0.58, 0, 0.95), (0.06, 0.16, 0.14), WHITE_LAMP, ELLIPSOID, LAMP),
        solid(RIDDEN, (-0.82, 0, 0.74), (0.05, 0.14, 0.08), RED_LAMP, BOX, LAMP),
    ]
    feet = tuple((0.02, side * 0.2, 0.32) for side in (-1, 1))
    hands = tuple((grip[0], side * 0.33, grip[1]) for side in (-1, 1))
    helmet = pick(rng, PAINTS)
    rider = _person(RIDDEN, body, rng, Posture((-0.34, 0.88), lean, feet, hands), helmet)
    return joined([*parts, *rider])


def _wheel(at: Point, radius: float, width: float, warmth: float = 0.0) -> np.ndarray:
    size = (2 * radius, 2 * radius, width)
    return solid(RIDDEN, at, size, TYRE, CYLINDER, axis="y", warmth=warmth)


def _build(shape: Rng) -> tuple[float, float]:
    """Draw body height in metres and stoutness, 1 = average."""
    return shape.uniform(1.55, 1.92), shape.uniform(0.85, 1.2)


def _person(
    label: str,
    build: tuple[float, float],
    rng: Rng,
    posture: Posture,
    helmet: Point | None = None,
) -> list[np.ndarray]:
    """Build a body around its joints.

    Args:
        label: segmentation class.
        build: of ``_build``.
        rng: of clothes, skin and hair.
        posture: its joints.
        helmet: its colour, or None for a bare head.
    """
    tall, stout = build
    hip, lean, feet, hands = posture
    top, legs, skin, hair = cloth(rng, 0.6), cloth(rng, 0.25), pick(rng, SKINS), pick(rng, HAIRS)
    ahead, up, torso = math.sin(lean), math.cos(lean), tall * 0.3

    def spine(height: float) -> Point:
        """Return the point so many torso lengths above the hips."""
        return hip[0] + ahead * torso * height, 0.0, hip[1] + up * torso * height

    x, y, z = spine(1.0)
    x, z = x + 0.2 * tall * 0.35 * ahead + 0.01, z + tall * 0.115

    def lump(at: Point, size: Point, color: Color, pitch: float = 0.0) -> np.ndarray:
        return solid(label, at, size, color, ELLIPSOID, pitch=pitch, warmth=BODY_K)

    head = solid(label, (x, y, z), (0.2, 0.16, 0.24), skin, ELLIPSOID, warmth=SKIN_K)
    over = (x - 0.03, y, z + 0.025)
    if helmet:
        crown = solid(label, over, (0.28, 0.25, 0.29), helmet, ELLIPSOID, PAINT)
    else:
        crown = lump(over, (0.21, 0.18, 0.22), hair)
    parts = [
        lump(spine(0.5), (0.24 * stout, 0.4 * stout, torso * 1.2), top, lean),
        lump(spine(0.88), (0.22 * stout, 0.46 * stout, 0.2), top),
        lump(spine(0), (0.25 * stout, 0.35 * stout, 0.26), legs),
        head,
        crown,
    ]
    for side, foot, hand in zip((-1, 1), feet, hands, strict=True):
        joint = (hip[0], side * 0.09 * stout, hip[1])
        knee = _knee(joint, foot, tall * 0.225)
        shoulder = spine(0.95)
        arm = (shoulder[0], side * 0.21 * stout, shoulder[2])
        sole = (foot[0] + 0.06, foot[1], foot[2] - 0.03)
        parts += [
            bar(label, joint, knee, 0.16, legs, warmth=BODY_K),
            bar(label, knee, foot, 0.12, legs, warmth=BODY_K),
            solid(label, sole, (0.27, 0.1, 0.1), DARK, ELLIPSOID),
            bar(label, arm, hand, 0.1, top, warmth=BODY_K),
            solid(label, hand, (0.09, 0.08, 0.11), skin, ELLIPSOID, warmth=SKIN_K),
        ]
    return parts


def _knee(hip: Point, foot: Point, half_leg: float) -> Point:
    """Return where a leg of two equal halves bends forward."""
    dx, dz = foot[0] - hip[0], foot[2] - hip[2]
    distance = math.hypot(dx, dz)
    bend = math.sqrt(max(half_leg**2 - distance**2 / 4, 0.0)) / distance
    x, z = hip[0] + dx / 2 - dz * bend, hip[2] + dz / 2 + dx * bend
    return x, (hip[1] + foot[1]) / 2, z
