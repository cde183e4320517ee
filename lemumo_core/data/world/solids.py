"""The solids that everything is built from: boxes, tapered boxes, cylinders and ellipsoids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.taxonomy import SEGMENTATION_IDS

BOX, TAPERED, CYLINDER, ELLIPSOID = range(4)

PLAIN, PAINT, GLASS, FACADE, BRICK, FOLIAGE, LAMP, RETRO = range(8)
"""Materials: what ``shading`` does with a surface."""

SOLID = np.dtype(
    [
        ("centre", "f4", 3),
        ("axes", "f4", (3, 3)),  # columns: the solid's own axes
        ("half", "f4", 3),  # half sizes along them
        ("taper", "f4", 3),  # how far front, rear and both sides lean in at the top, 0 to 1
        ("shape", "u1"),
        ("material", "u1"),
        ("label", "u1"),
        ("colour", "f4", 3),  # linear albedo, 0 to 1
        ("warmth", "f4"),  # kelvin above the surroundings, for the thermal camera
        ("owner", "i4"),  # index of the object it belongs to, -1 = scenery
    ]
)

Triple = Sequence[float] | np.ndarray
Axis = {
    "x": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32),
    "y": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32),
    "z": np.eye(3, dtype=np.float32),
}
"""Rotations that turn a solid's own z axis into a body axis."""


def solid(
    label: str,
    centre: Triple,
    size: Triple,
    colour: Triple,
    shape: int = BOX,
    material: int = PLAIN,
    *,
    axis: str = "z",
    pitch: float = 0.0,
    yaw: float = 0.0,
    taper: Triple = (0.0, 0.0, 0.0),
    warmth: float = 0.0,
) -> np.ndarray:
    """One solid in its object's body frame (x forward, y left, z up).

    Args:
        label: a segmentation class.
        centre: metres.
        size: full size along the solid's own axes, metres.
        colour: linear RGB albedo, 0 to 1.
        shape: ``BOX``, ``TAPERED``, ``CYLINDER`` (about its z) or ``ELLIPSOID``.
        material: one of the materials above.
        axis: body axis that its own z points along.
        pitch, yaw: radians, about the body's y and z; pitch first.
        taper: of a ``TAPERED`` box: share of the half length that the front and the rear lean in
            at the top, and of the half width for both sides.
        warmth: kelvin above the surroundings.

    Returns:
        ``SOLID`` (1,).
    """
    made = np.zeros(1, SOLID)
    made["centre"] = centre
    made["axes"] = (turn(yaw) @ _pitched(pitch) @ Axis[axis]).astype(np.float32)
    made["half"] = np.asarray(size, np.float32) / 2
    made["taper"] = taper
    made["shape"], made["material"], made["label"] = shape, material, SEGMENTATION_IDS[label]
    made["colour"], made["warmth"], made["owner"] = colour, warmth, -1
    return made


def turn(yaw: float) -> np.ndarray:
    """Rotation (3, 3) about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _pitched(pitch: float) -> np.ndarray:
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def placed(
    models: Sequence[np.ndarray], positions: np.ndarray, yaws: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Put models into the world.

    Args:
        models: M arrays of ``SOLID``, each in a body frame.
        positions: (M, 3).
        yaws: (M,).
        owners: (M,) written into ``owner``.

    Returns:
        All their solids in the world, ``SOLID`` (P,).
    """
    if not models:
        return np.zeros(0, SOLID)
    world = np.concatenate(models)
    counts = [len(model) for model in models]
    c, s = np.cos(yaws), np.sin(yaws)
    zero, one = np.zeros_like(c), np.ones_like(c)
    R = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)
    R = np.repeat(R.astype(np.float32), counts, axis=0)
    world["centre"] = np.einsum("pij,pj->pi", R, world["centre"])
    world["centre"] += np.repeat(np.asarray(positions, np.float32), counts, axis=0)
    world["axes"] = R @ world["axes"]
    world["owner"] = np.repeat(owners, counts)
    return world


def extent(model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (3,) of the bounds of a model in its body frame, metres."""
    reach = np.abs(model["axes"]) @ model["half"][:, :, None]
    return (
        (model["centre"] - reach[..., 0]).min(axis=0),
        (model["centre"] + reach[..., 0]).max(axis=0),
    )
