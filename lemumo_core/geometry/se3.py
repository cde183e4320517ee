"""Rigid transforms as float64 (4, 4) matrices. ``T_a_b`` maps points in frame b to frame a."""

from __future__ import annotations

import numpy as np

from lemumo_core.faults import Fault

MAX_TRANSLATION_M = 1e9
"""Largest distance between two frames; that of a corrupt message would overflow further on."""


def make_T(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Compose a float64 (4, 4) transform of a rotation (3, 3) and a translation (3,)."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


T_BODY_OPTICAL = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))
"""From the optical axes of a camera (x right, y down, z forward) to those of a body (x forward,
y left, z up) in the same place (REP-103)."""


def inverse(T: np.ndarray) -> np.ndarray:
    """Invert a rigid (4, 4) transform."""
    R = T[:3, :3].T
    return make_T(R, -R @ T[:3, 3])


def transform(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply T to points (N, 3); the result keeps the points' dtype."""
    return points @ T[:3, :3].T.astype(points.dtype) + T[:3, 3].astype(points.dtype)


def rotation_from_quaternion(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Convert a unit quaternion to a float64 (3, 3) rotation matrix."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(R: np.ndarray) -> np.ndarray:
    """Convert rotation matrices (..., 3, 3) to unit quaternions, float64 (..., 4).

    Their order is w, x, y, z, with w >= 0.

    Each is the best conditioned of Shepperd's four branches, the rows of 4 q q^T.
    """
    R = np.asarray(R, np.float64)
    xx, yy, zz = (R[..., i, i] for i in range(3))
    wx, wy, wz = (R[..., j, i] - R[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1)))
    yz, zx, xy = (R[..., j, i] + R[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1)))
    rows = (
        (1 + xx + yy + zz, wx, wy, wz),
        (wx, 1 + xx - yy - zz, xy, zx),
        (wy, xy, 1 - xx + yy - zz, yz),
        (wz, zx, yz, 1 - xx - yy + zz),
    )
    products = np.empty((*xx.shape, 4, 4))
    for i, row in enumerate(rows):
        for j, product in enumerate(row):
            products[..., i, j] = product
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def interpolate(T_a: np.ndarray, T_b: np.ndarray, fraction: float) -> np.ndarray:
    """Interpolate between T_a (fraction 0) and T_b (fraction 1).

    Positions move on a line, rotations at constant speed about one axis, the short way round
    (SLERP; Shoemake, SIGGRAPH 1985).
    """
    q_a, q_b = quaternion_from_rotation(np.stack([T_a[:3, :3], T_b[:3, :3]]))
    cosine = float(q_a @ q_b)
    if cosine < 0:
        q_b, cosine = -q_b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    weights = np.array([1 - fraction, fraction])
    if angle > 1e-6:  # below, the sine's quotient is the fraction itself
        weights = np.sin(weights * angle) / np.sin(angle)
    q = weights[0] * q_a + weights[1] * q_b
    R = rotation_from_quaternion(*(q / np.linalg.norm(q)).tolist())
    return make_T(R, T_a[:3, 3] + fraction * (T_b[:3, 3] - T_a[:3, 3]))


def check_rigid(T: np.ndarray, name: str) -> np.ndarray:
    """Return T as float64 (4, 4).

    Args:
        T: (4, 4), or its 16 numbers by row.
        name: in what is wrong with it.

    Raises:
        Fault: ``bad_transform`` unless it is a proper rigid transform (rotation to 1e-3) within
            ``MAX_TRANSLATION_M``.
    """
    given = T
    try:
        T = np.asarray(given, np.float64)
    except (TypeError, ValueError):  # words, or rows of several lengths
        T = np.empty(0)
    if T.shape == (16,):
        T = T.reshape(4, 4)
    if T.shape != (4, 4):
        raise Fault(
            "bad_transform",
            f"{name} must be 16 numbers by row, or a matrix such as [[1, 0, 0, 0], [0, 1, 0, 0], "
            f"[0, 0, 1, 0], [0, 0, 0, 1]], not {np.asarray(given, object).tolist()}",
        )
    if not (np.abs(T) <= MAX_TRANSLATION_M).all():  # NaN fails too
        raise Fault("bad_transform", f"{name} must be a finite transform, got\n{T}")
    R = T[:3, :3]
    proper = np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0
    if not proper or not np.allclose(T[3], [0, 0, 0, 1]):
        raise Fault("bad_transform", f"{name} is not a rotation and a translation:\n{T}")
    return T
