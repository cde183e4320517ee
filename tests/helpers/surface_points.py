"""Points on the surface of a solid, from the definition of its shape."""

from __future__ import annotations

import numpy as np

from lemumo_core.world.solids import CYLINDER, ELLIPSOID, TAPERED


def surface_points(part: np.ndarray, steps: int = 40) -> np.ndarray:
    """Points (N, 3) of one ``SOLID`` in the frame it is given in."""
    if part["shape"] >= CYLINDER:
        turn = np.linspace(0, 2 * np.pi, 2 * steps + 1)
        ring = np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], axis=1)
        own = np.concatenate([ring, ring])
        own[: len(ring), 2], own[len(ring) :, 2] = -1, 1
        if part["shape"] == ELLIPSOID:
            own = np.concatenate(
                [ring * np.sqrt(1 - z * z) + (0, 0, z) for z in np.linspace(-1, 1, steps + 1)]
            )
    else:
        front, rear, sides = part["taper"] if part["shape"] == TAPERED else (0, 0, 0)
        own = np.array(
            [
                (end * (1 - lean * s), y * (1 - sides * s), 2 * s - 1)
                for s in (0, 1)  # share of the height
                for end, lean in ((1, front), (-1, rear))
                for y in (-1, 1)
            ]
        )
    return (own * part["half"]) @ part["axes"].T + part["center"]
