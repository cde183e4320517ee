"""Static objects along the street: buildings, trees, poles, signs, hedges and kerbs.

Each function returns ``SOLID`` (P,) in a body frame whose x runs along the street, with the street
on its right (-y); origin on the ground.
"""

from __future__ import annotations

import numpy as np

from lemumo_core.world.palette import Rng
from lemumo_core.world.solids import (
    BOX,
    BRICK,
    CYLINDER,
    ELLIPSOID,
    FACADE,
    FOLIAGE,
    GLASS,
    LAMP,
    PLAIN,
    RETRO,
    TAPERED,
    joined,
    solid,
)

WALLS = (
    *((0.45, 0.36, 0.28), (0.5, 0.48, 0.44), (0.36, 0.16, 0.11), (0.28, 0.28, 0.3)),
    *((0.6, 0.52, 0.38), (0.22, 0.13, 0.1), (0.4, 0.42, 0.4), (0.55, 0.4, 0.33)),
)
ROOFS = ((0.2, 0.08, 0.05), (0.1, 0.1, 0.11), (0.16, 0.12, 0.1))
BARK, GALVANISED, CONCRETE = (0.09, 0.065, 0.045), (0.32, 0.33, 0.34), (0.42, 0.41, 0.39)
SIGN_COLORS = ((0.6, 0.02, 0.03), (0.02, 0.12, 0.5), (0.75, 0.6, 0.02), (0.75, 0.75, 0.75))


def building(rng: Rng, length: float) -> np.ndarray:
    """Build a house front of some length, its wall in the plane y = 0 and its body behind it."""
    depth, height = (
        rng.uniform(9, 14),
        float(rng.choice([6.5, 9.5, 12.5, 16, 21]) * rng.uniform(0.9, 1.1)),
    )
    wall = WALLS[rng.integers(len(WALLS))]
    material = FACADE if rng.random() < 0.85 else BRICK
    B = "building"
    parts = [
        solid(
            B, (0, depth / 2, height / 2), (length, depth, height), wall, BOX, material, warmth=2.0
        )
    ]
    if rng.random() < 0.6 and height < 17:
        rise = rng.uniform(2, 4)
        parts.append(
            solid(
                B,
                (0, depth / 2, height + rise / 2),
                (length, depth + 0.8, rise),
                ROOFS[rng.integers(len(ROOFS))],
                TAPERED,
                PLAIN,
                taper=(0, 0, 0.96),
            )
        )
        if rng.random() < 0.7:
            at = rng.uniform(-0.35, 0.35) * length
            parts.append(
                solid(
                    B,
                    (at, depth * 0.4, height + rise),
                    (0.7, 0.7, 1.6),
                    (0.25, 0.12, 0.09),
                    BOX,
                    BRICK,
                )
            )
    else:
        parts.append(
            solid(B, (0, depth / 2, height + 0.15), (length + 0.3, depth + 0.3, 0.3), CONCRETE)
        )
    base = rng.uniform(0.5, 3.4)
    parts.append(
        solid(
            B,
            (0, -0.04, base / 2),
            (length, 0.12, base),
            np.multiply(wall, rng.uniform(0.4, 0.8)),
            BOX,
            GLASS if base > 2.6 and rng.random() < 0.4 else PLAIN,
        )
    )
    for _ in range(rng.integers(1, 3)):
        at = rng.uniform(-0.4, 0.4) * length
        parts.append(solid(B, (at, -0.1, 1.1), (1.1, 0.1, 2.2), rng.uniform(0.03, 0.25, 3)))
    if rng.random() < 0.35:
        at = rng.uniform(-0.25, 0.25) * length
        parts.append(
            solid(
                B,
                (at, -0.7, 3.0),
                (rng.uniform(2, 5), 1.4, 0.16),
                rng.uniform(0.05, 0.6, 3),
                TAPERED,
                taper=(0, 0, 0.2),
            )
        )
    if rng.random() < 0.4:
        for level in np.arange(3.6, height - 2, 3.1):
            at = rng.uniform(-0.2, 0.2) * length
            parts.append(solid(B, (at, -0.5, level), (2.4, 1.0, 0.14), CONCRETE))
            parts.append(
                solid(B, (at, -0.97, level + 0.5), (2.4, 0.05, 0.95), np.multiply(wall, 0.7))
            )
    return joined(parts)


def tree(rng: Rng) -> np.ndarray:
    """Build a street tree: a trunk and a crown of several leaf clouds."""
    trunk, size = rng.uniform(1.9, 3.2), rng.uniform(0.8, 1.5)
    green = np.array([0.07, 0.13, 0.035]) * rng.uniform(0.6, 1.5) + rng.uniform(0, 0.03, 3)
    if rng.random() < 0.1:
        green = np.array([0.3, 0.15, 0.03])  # autumn
    V, round_crown = "vegetation", rng.random() < 0.75
    width = rng.uniform(0.22, 0.42)
    parts = [
        solid(V, (0, 0, trunk / 2 + 0.3), (width, width, trunk + 0.6), BARK, CYLINDER, warmth=1.0)
    ]
    if round_crown:
        for _ in range(7):
            x, y, z = rng.normal(0, 0.75, 3) * size
            extent = rng.uniform(1.5, 2.7, 3) * size
            shade = green * rng.uniform(0.75, 1.25)
            parts.append(
                solid(
                    V,
                    (x, y, trunk + 1.2 * size + abs(z)),
                    extent,
                    shade,
                    ELLIPSOID,
                    FOLIAGE,
                    yaw=rng.uniform(0, 3),
                    warmth=-1.0,
                )
            )
    else:
        for k in range(4):  # a slender conifer
            r = (1 - k / 4.6) * 1.3 * size
            parts.append(
                solid(
                    V,
                    (0, 0, trunk * 0.5 + k * 1.25 * size),
                    (2 * r, 2 * r, 2.2 * size),
                    green,
                    TAPERED,
                    FOLIAGE,
                    taper=(0.85, 0.85, 0.85),
                    yaw=k * 0.8,
                    warmth=-1.0,
                )
            )
    return joined(parts)


def hedge(rng: Rng) -> np.ndarray:
    """Build a row of bushes along x."""
    green = np.array([0.06, 0.1, 0.03]) * rng.uniform(0.7, 1.4)
    return joined(
        [
            solid(
                "vegetation",
                (x, 0, 0.4),
                rng.uniform((1.5, 0.8, 0.9), (2.1, 1.1, 1.5)),
                green * rng.uniform(0.8, 1.2),
                ELLIPSOID,
                FOLIAGE,
            )
            for x in np.arange(-3, 3.1, 1.2)
        ]
    )


def lamp_post(rng: Rng) -> np.ndarray:
    """Build a street lamp that reaches over the road."""
    height, glow = rng.uniform(5.5, 8), (0.9, 0.8, 0.55)
    return joined(
        [
            solid("pole", (0, 0, height / 2), (0.15, 0.15, height), GALVANISED, CYLINDER),
            solid("pole", (0, -0.75, height), (0.08, 0.08, 1.6), GALVANISED, CYLINDER, axis="y"),
            solid("pole", (0, -1.5, height - 0.06), (0.3, 0.7, 0.1), glow, BOX, LAMP, warmth=8.0),
        ]
    )


def traffic_light(rng: Rng) -> np.ndarray:
    """Build a signal post that faces the traffic of its side of the road (+x)."""
    lit = rng.integers(3)
    colors = ((0.8, 0.02, 0.02), (0.85, 0.5, 0.02), (0.02, 0.7, 0.2))
    parts = [
        solid("pole", (0, 0, 1.5), (0.13, 0.13, 3.0), GALVANISED, CYLINDER),
        solid("sign", (0, 0, 3.4), (0.24, 0.3, 0.9), (0.02, 0.02, 0.02)),
    ]
    for k, (red, green, blue) in enumerate(colors):
        at, size = (0.13, 0, 3.68 - 0.28 * k), (0.05, 0.2, 0.2)
        if k == lit:
            parts.append(solid("sign", at, size, (red, green, blue), ELLIPSOID, LAMP))
        else:
            dark = (0.08 * red, 0.08 * green, 0.08 * blue)
            parts.append(solid("sign", at, size, dark, ELLIPSOID))
    return joined(parts)


def road_sign(rng: Rng) -> np.ndarray:
    """Build a post with a plate that faces the traffic of its side of the road (+x)."""
    height = rng.uniform(2.3, 2.9)
    parts = [solid("pole", (0, 0, height / 2), (0.07, 0.07, height), GALVANISED, CYLINDER)]
    color, size = SIGN_COLORS[rng.integers(len(SIGN_COLORS))], rng.uniform(0.55, 0.8)
    kind = rng.integers(3)
    at, white = (0.06, 0, height), (0.8, 0.8, 0.8)
    if kind == 0:
        disc, inner = (size, size, 0.03), (0.7 * size, 0.7 * size, 0.04)
        parts.append(solid("sign", at, disc, color, CYLINDER, RETRO, axis="x"))
        parts.append(solid("sign", (0.075, 0, height), inner, white, CYLINDER, RETRO, axis="x"))
    elif kind == 1:
        triangle = (0.03, size, size)
        parts.append(solid("sign", at, triangle, color, TAPERED, RETRO, taper=(0, 0, 0.95)))
    else:
        parts.append(solid("sign", at, (0.03, size * 1.3, size * 0.8), color, BOX, RETRO))
    return joined(parts)


def kerb(length: float) -> np.ndarray:
    """Build a kerb stone along x."""
    return solid("sidewalk", (0, 0, 0.06), (length, 0.16, 0.12), CONCRETE)


def bin_or_box(rng: Rng) -> np.ndarray:
    """Build street furniture: a litter bin, a cabinet or a bollard, labelled as pole."""
    kind = rng.integers(3)
    if kind == 0:
        return solid("pole", (0, 0, 0.45), (0.42, 0.42, 0.9), (0.05, 0.1, 0.06), CYLINDER)
    if kind == 1:
        return solid("pole", (0, 0, 0.6), (0.8, 0.35, 1.2), (0.3, 0.32, 0.3))
    return solid("pole", (0, 0, 0.45), (0.14, 0.14, 0.9), (0.5, 0.5, 0.5), CYLINDER)
