"""Which beam of a LiDAR each return of a scan is of."""

from __future__ import annotations

import numpy as np

RING_COLUMN = 4
"""The column of ``LidarScan.points`` that holds the ring."""
MAX_BEAMS = 512
LEAST_BEAMS = 4
FORWARDS = 0.95
"""Share of the steps from one return to the next that go on around the sensor, where a file holds
the turns of one beam after the other."""
ELEVATION_BIN_DEG = 0.05
BAND_DEG = 0.8
"""Bands of elevation are so high; they stand for beams where these cannot be found."""


def beam_numbers(points: np.ndarray) -> np.ndarray:
    """Return the number of the beam of each return.

    It is the ring, where points have one. Without it, beams are found by the order of a file that
    holds one turn after the other (KITTI), or by gaps between their elevations (16 beams). Else
    bands of elevation of ``BAND_DEG`` stand for them.

    Args:
        points: float32 (N, >=3), LiDAR frame, as of ``LidarScan``.

    Returns:
        int64 (N,); neighbouring beams have neighbouring numbers.
    """
    if points.shape[1] > RING_COLUMN:
        ring = points[:, RING_COLUMN]
        if _are_rings(ring):
            return ring.astype(np.int64)
    x, y, z = (points[:, i].astype(np.float64) for i in range(3))
    with np.errstate(all="ignore"):
        elevation_deg = np.degrees(np.arctan2(z, np.hypot(x, y)))
        azimuth = np.arctan2(y, x)
    elevation_deg, azimuth = np.nan_to_num(elevation_deg), np.nan_to_num(azimuth)
    for found in (_by_turns(azimuth, elevation_deg), _by_gaps(elevation_deg)):
        if found is not None:
            return found
    return np.floor(elevation_deg / BAND_DEG).astype(np.int64)


def _are_rings(values: np.ndarray) -> bool:
    """Return whether a column can hold the numbers of beams: a few small whole numbers."""
    if not len(values) or not np.isfinite(values).all():
        return False
    whole = (values == np.floor(values)).all() and 0 <= values.min() <= values.max() < MAX_BEAMS
    return bool(whole) and len(np.unique(values)) >= LEAST_BEAMS


def _by_turns(azimuth: np.ndarray, elevation_deg: np.ndarray) -> np.ndarray | None:
    """Number the turns of a scan in the order of its rows; None where they are no beams."""
    step = np.diff(azimuth % (2 * np.pi))
    forwards = np.median(np.sign(step)) if len(step) else 0.0
    turn = np.concatenate([[0], np.cumsum(forwards * step < -np.pi)]).astype(np.int64)
    count = int(turn[-1]) + 1 if len(turn) else 0
    if not forwards or not LEAST_BEAMS <= count <= MAX_BEAMS:
        return None
    onwards = forwards * step > 0
    onwards |= forwards * step < -np.pi
    if onwards.mean() < FORWARDS:
        return None
    # Beams stand one above the other. Their elevations alone do not separate them: the lasers of
    # an HDL-64 are some decimetres apart, which is degrees at a near wall.
    starts = np.flatnonzero(np.diff(turn, prepend=-1))
    middle = np.array([np.median(part) for part in np.split(elevation_deg, starts[1:])])
    rising = np.sign(np.diff(middle))
    return turn if abs(rising.sum()) > 0.5 * len(rising) else None


def _by_gaps(elevation_deg: np.ndarray) -> np.ndarray | None:
    """Number the clusters of elevations from below; None where there are no gaps between them."""
    if not len(elevation_deg):
        return None
    bins = np.floor(elevation_deg / ELEVATION_BIN_DEG).astype(np.int64)
    bins -= bins.min()
    counts = np.bincount(bins)
    filled = np.flatnonzero(counts > 0.02 * counts.max())
    starts = filled[np.flatnonzero(np.diff(filled, prepend=-10) > 1)]
    ends = filled[np.flatnonzero(np.diff(filled, append=filled[-1] + 10) > 1)]
    if not LEAST_BEAMS <= len(starts) <= MAX_BEAMS:
        return None
    if np.median(ends - starts + 1) > 0.5 * np.median(np.diff(starts)):
        return None
    borders = (ends[:-1] + starts[1:] + 1) / 2
    return np.searchsorted(borders, bins, side="right").astype(np.int64)
