"""Smooth the path of one object, all of whose positions are known: past and future alike.

The fixed-interval smoother of Rauch et al. ("Maximum likelihood estimates of linear dynamic
systems", AIAA Journal 3(8), 1965) over the filter of ``streaming.kalman``.
"""

from __future__ import annotations

import numpy as np

from lemumo_core.streaming.kalman import first_state, predict, update


def smooth(
    seconds: np.ndarray, positions: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the states of an object at some times, given all measurements.

    Args:
        seconds: float64 (N,), rising.
        positions: float64 (N, 3), metres, NaN where nothing was measured; the first is measured.
        noise: float64 (N, 3, 3), covariances of the positions.

    Returns:
        Means (N, 6), position and velocity, and covariances (N, 6, 6).
    """
    count = len(seconds)
    means, covariances = np.zeros((count, 6)), np.zeros((count, 6, 6))
    ahead, ahead_covariances = means.copy(), covariances.copy()
    state = first_state(positions[:1], noise[:1])
    means[0], covariances[0] = state[0][0], state[1][0]
    for i in range(1, count):
        state = predict(*state, seconds[i] - seconds[i - 1])
        ahead[i], ahead_covariances[i] = state[0][0], state[1][0]
        if np.isfinite(positions[i]).all():
            state = update(*state, positions[i : i + 1], noise[i : i + 1])
        means[i], covariances[i] = state[0][0], state[1][0]
    for i in range(count - 2, -1, -1):
        F = np.eye(6)
        F[:3, 3:] = (seconds[i + 1] - seconds[i]) * np.eye(3)
        gain = np.linalg.solve(ahead_covariances[i + 1], F @ covariances[i]).T
        means[i] += gain @ (means[i + 1] - ahead[i + 1])
        covariances[i] += gain @ (covariances[i + 1] - ahead_covariances[i + 1]) @ gain.T
    return means, covariances
