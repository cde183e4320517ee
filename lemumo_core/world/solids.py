"""Solids that everything is built from: boxes, tapered boxes, cylinders and ellipsoids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lemumo_core.taxonomy import SEGMENTATION_IDS

BOX, TAPERED, CYLINDER, ELLIPSOID = range(4)

PLAIN, PAINT, GLASS, FACADE, BRICK, FOLIAGE, LAMP, RETRO = range(8)
"""Materials, whose looks ``materials`` and ``light`` define."""

SOLID = np.dtype(
    [
        ("center", "f4", 3),
        ("axes", "f4", (3, 3)),  # columns: the solid's own axes
        ("half", "f4", 3),  # half sizes along them
        ("taper", "f4", 3),  # how far front, rear and both sides lean in at the top, 0 to 1
        ("shape", "u1"),
        ("material", "u1"),
        ("label", "u1"),
        ("color", "f4", 3),  # linear albedo, 0 to 1
        ("warmth", "f4"),  # kelvin above the surroundings, for the thermal camera
        ("owner", "i4"),  # index of the object it belongs to, -1 = scenery
    ]
)

Triple = Sequence[float] | np.ndarray
_BYTES = np.dtype((np.void, SOLID.itemsize))


def solid(
    label: str,
    center: Triple,
    size: Triple,
    color: Triple,
    shape: int = BOX,
    material: int = PLAIN,
    *,
    axis: str = "z",
    pitch: float = 0.0,
    yaw: float = 0.0,
    taper: Triple = (0.0, 0.0, 0.0),
    warmth: float = 0.0,
) -> np.ndarray:
    """Build one solid in its object's body frame (x forward, y left, z up).

    Args:
        label: a segmentation class.
        center: metres.
        size: full size along the solid's own axes, metres.
        color: linear RGB albedo, 0 to 1.
        shape: ``BOX``, ``TAPERED``, ``CYLINDER`` (about its z) or ``ELLIPSOID``.
        material: one of the materials above.
        axis: body axis that its own z points along.
        pitch: radians, about the body's y, applied first.
        yaw: radians, about the body's z.
        taper: of a ``TAPERED`` box: share of the half length that the front and the rear lean in
            at the top, and of the half width for both sides.
        warmth: kelvin above the surroundings.

    Returns:
        ``SOLID`` (1,).
    """
    cp, sp, cy, sy = math.cos(pitch), math.sin(pitch), math.cos(yaw), math.sin(yaw)
    x, y, z = (cy * cp, sy * cp, -sp), (-sy, cy, 0.0), (cy * sp, sy * sp, cp)
    own = {"z": (x, y, z), "x": (y, z, x), "y": (z, x, y)}[axis]
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    row = (center, tuple(zip(*own, strict=True)), half, taper, shape, material)
    return np.array([(*row, SEGMENTATION_IDS[label], color, warmth, -1)], SOLID)


def bar(
    label: str,
    start: Triple,
    end: Triple,
    width: float,
    color: Triple,
    material: int = PLAIN,
    *,
    warmth: float = 0.0,
) -> np.ndarray:
    """Build a thin cylinder between two points of the body frame: a limb, a tube, a post.

    Returns:
        ``SOLID`` (1,).
    """
    dx, dy, dz = (float(b) - float(a) for a, b in zip(start, end, strict=True))
    return solid(
        label,
        tuple((float(a) + float(b)) / 2 for a, b in zip(start, end, strict=True)),
        (width, width, math.hypot(dx, dy, dz)),
        color,
        CYLINDER,
        material,
        pitch=math.atan2(math.hypot(dx, dy), dz),
        yaw=math.atan2(dy, dx),
        warmth=warmth,
    )


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays of ``SOLID``.

    ``np.concatenate`` of structured arrays compares their fields pair by pair, which is twenty
    times slower than joining the bytes.
    """
    if not parts:
        return np.zeros(0, SOLID)
    return np.concatenate([part.view(_BYTES) for part in parts]).view(SOLID)


def placed(
    models: Sequence[np.ndarray], positions: np.ndarray, yaws: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Place models in the world.

    Args:
        models: M arrays of ``SOLID``, each in a body frame.
        positions: (M, 3).
        yaws: (M,).
        owners: (M,) written into ``owner``.

    Returns:
        All their solids in the world, ``SOLID`` (P,).
    """
    world = joined(models)
    counts = [len(model) for model in models]
    R = np.zeros((len(models), 3, 3), np.float32)
    R[:, 0, 0] = R[:, 1, 1] = np.cos(yaws)
    R[:, 1, 0] = np.sin(yaws)
    R[:, 0, 1] = -R[:, 1, 0]
    R[:, 2, 2] = 1
    R = np.repeat(R, counts, axis=0)
    world["center"] = (R @ world["center"][:, :, None])[..., 0]
    world["center"] += np.repeat(np.asarray(positions, np.float32), counts, axis=0)
    world["axes"] = R @ world["axes"]
    world["owner"] = np.repeat(owners, counts)
    return world


def extent(model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper corner (3,) of a model's bounds in its body frame, metres.

    Exact, but for a tilted ``TAPERED`` box, which counts as an untapered one.
    """
    arms = np.abs(model["axes"]) * model["half"][:, None]  # (P, body axis, own axis)
    shape = model["shape"][:, None]
    # A disc or an ellipsoid reaches as far as the length of its projected arms, not their sum.
    across = np.where(
        shape < CYLINDER, arms[..., 0] + arms[..., 1], np.hypot(arms[..., 0], arms[..., 1])
    )
    reach = np.where(shape == ELLIPSOID, np.hypot(across, arms[..., 2]), across + arms[..., 2])
    return (model["center"] - reach).min(axis=0), (model["center"] + reach).max(axis=0)
