"""Colours (linear RGB albedo) and warmth (kelvin above the surroundings) that objects share."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator
Color = tuple[float, float, float]

TYRE, STEEL, DARK = (0.02, 0.02, 0.02), (0.35, 0.36, 0.38), (0.035, 0.035, 0.04)
WINDOW, PLATE = (0.03, 0.04, 0.05), (0.8, 0.8, 0.78)
WHITE_LAMP, RED_LAMP, AMBER_LAMP = (0.95, 0.93, 0.85), (0.7, 0.02, 0.02), (0.8, 0.45, 0.02)
PAINTS = (
    *((0.75, 0.75, 0.76), (0.5, 0.51, 0.52), (0.18, 0.19, 0.2), (0.02, 0.02, 0.025)),
    *((0.4, 0.02, 0.02), (0.02, 0.06, 0.25), (0.03, 0.12, 0.07), (0.45, 0.36, 0.2)),
    *((0.6, 0.3, 0.03), (0.55, 0.58, 0.62), (0.12, 0.15, 0.22)),
)
SKINS = ((0.55, 0.36, 0.26), (0.35, 0.2, 0.13), (0.62, 0.45, 0.35), (0.15, 0.09, 0.06))
HAIRS = ((0.02, 0.015, 0.01), (0.1, 0.06, 0.03), (0.3, 0.2, 0.08), (0.4, 0.4, 0.4))

ENGINE_K, WHEEL_K, BODY_K, SKIN_K, CABIN_K = 25.0, 14.0, 12.0, 16.0, 4.0
"""Warmth of a running engine, rolling tyres, clothed people, bare skin and a vehicle's cabin."""


def pick(rng: Rng, options: tuple[Color, ...]) -> Color:
    """Draw one of the colours."""
    return options[rng.integers(len(options))]


def cloth(rng: Rng, brightest: float) -> Color:
    """Draw any colour up to an albedo."""
    red, green, blue = rng.uniform(0.01, brightest, 3).tolist()
    return red, green, blue
