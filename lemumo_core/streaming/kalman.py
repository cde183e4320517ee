"""A Kalman filter of points that move at constant velocity, of many at once.

The state is position and velocity, metres and metres per second, in any frame; between two times
the velocity changes by a white acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with
Applications to Tracking and Navigation", section 6.3).
"""

from __future__ import annotations

import numpy as np

ACCELERATION_MPS2 = 2.0
"""Standard deviation of the acceleration along each axis."""
INITIAL_SPEED_MPS = 10.0
"""Standard deviation of a velocity that nothing is known of, along each axis."""


def first_state(positions: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means (N, 6) and covariances (N, 6, 6) of points that were measured once.

    Args:
        positions: float64 (N, 3).
        noise: float64 (N, 3, 3), covariances of the positions.
    """
    means = np.concatenate([positions, np.zeros_like(positions)], axis=1)
    covariances = np.zeros((len(means), 6, 6))
    covariances[:, :3, :3] = noise
    covariances[:, 3:, 3:] = INITIAL_SPEED_MPS**2 * np.eye(3)
    return means, covariances


def predict(
    means: np.ndarray, covariances: np.ndarray, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (N, 6) and covariances (N, 6, 6) some seconds later, or earlier where below 0.

    An earlier state is as uncertain as one that lies as far ahead.
    """
    F = np.eye(6)
    F[:3, 3:] = seconds * np.eye(3)
    G = ACCELERATION_MPS2 * np.concatenate([seconds**2 / 2 * np.eye(3), seconds * np.eye(3)])
    return means @ F.T, F @ covariances @ F.T + G @ G.T


def update(
    means: np.ndarray, covariances: np.ndarray, measured: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (N, 6) and covariances (N, 6, 6) after a measurement of each position.

    Args:
        means: before.
        covariances: likewise.
        measured: float64 (N, 3).
        noise: float64 (N, 3, 3), covariances of the measurements.
    """
    S = covariances[:, :3, :3] + noise
    gain = np.swapaxes(np.linalg.solve(S, covariances[:, :3]), 1, 2)
    residual = measured - means[:, :3]
    kept = covariances - gain @ S @ np.swapaxes(gain, 1, 2)
    kept = (kept + np.swapaxes(kept, 1, 2)) / 2  # rounding must not make it lopsided
    return means + np.einsum("nij,nj->ni", gain, residual), kept
