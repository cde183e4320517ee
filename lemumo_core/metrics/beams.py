"""Which beam of a LiDAR each return of a scan is of."""

from __future__ import annotations

import numpy as np

from lemumo_core.frame import LidarScan, is_return

RING_COLUMN = 4
"""The column of ``LidarScan.points`` that holds the ring."""
MAX_BEAMS = 512
LEAST_BEAMS = 4
FORWARDS = 0.95
"""Share of the steps from one return to the next that go on around the sensor, where a file holds
the turns of one beam after the other."""
STRIDE = 17
"""One row in so many is enough to find the axes. It divides no number of beams: rows of a scan may
go through all beams, again and again."""
MUCH_LESS = 3.0
"""Ratio of the mean squares of the beams' directions along two axes. It is 2.7 between width and
height of an upright depth camera's cloud, and 5 and more for LiDARs at most 60 degrees high."""
UPSIDE_DOWN = 0.5
"""Share of the image's downward axis from which on an axis points downwards."""
ELEVATION_BIN_DEG = 0.05
BAND_DEG = 0.8
"""Bands of elevation are so high; they stand for beams where these cannot be found."""


def beam_numbers(scan: LidarScan) -> np.ndarray:
    """Return the number of the beam of each return.

    It is the ring, where points have one. Without it, beams are found by the order of a file that
    holds one turn after the other (KITTI), or by gaps between their elevations (16 beams). Else
    bands of elevation of ``BAND_DEG`` stand for them.

    Args:
        scan: in full.

    Returns:
        int64 (N,), 0 for rows that are no return; neighbouring beams have neighbouring numbers.
    """
    numbers = np.zeros(len(scan.points), np.int64)
    returns = is_return(scan.points)
    if returns.any():
        numbers[returns] = _numbers(scan.points[returns], upright_axes(scan))
    return numbers


def upright_axes(scan: LidarScan) -> np.ndarray:
    """Return the rotation (3, 3) from the LiDAR's axes to those of them by which z is upwards.

    Beams of a spinning LiDAR keep their elevation about its z axis, those in the frame of a depth
    camera about y. It is the axis nearest to the image's own, unless the beams reach much less far
    along another one: a camera may lie on its side, or look down.
    """
    R = scan.T_camera_lidar[:3, :3]
    axis = int(np.abs(R[1]).argmax())
    some = scan.points[::STRIDE, :3].astype(np.float64)
    some = some[is_return(some)]
    if len(some):
        along = np.mean(some**2 / (some**2).sum(axis=1, keepdims=True), axis=0)
        if along[axis] > MUCH_LESS * along.min():
            axis = int(along.argmin())
    sign = -1.0 if R[1, axis] > UPSIDE_DOWN else 1.0
    return np.eye(3)[[(axis + 1) % 3, (axis + 2) % 3, axis]] * [[1.0], [sign], [sign]]


def _numbers(points: np.ndarray, to_axes: np.ndarray) -> np.ndarray:
    """Return the beams of returns (N, >=3), of which there are some."""
    x, y, z = (points[:, :3].astype(np.float64) @ to_axes.T).T
    elevation_deg = np.degrees(np.arctan2(z, np.hypot(x, y)))
    if points.shape[1] > RING_COLUMN and _are_rings(points[:, RING_COLUMN]):
        return _by_rings(points[:, RING_COLUMN].astype(np.int64), elevation_deg)
    for found in (_by_turns(np.arctan2(y, x), elevation_deg), _by_gaps(elevation_deg)):
        if found is not None:
            return found
    return np.floor(elevation_deg / BAND_DEG).astype(np.int64)


def _are_rings(values: np.ndarray) -> bool:
    """Return whether a column can hold the numbers of beams: a few small whole numbers."""
    if not np.isfinite(values).all():
        return False
    whole = (values == np.floor(values)).all() and 0 <= values.min() <= values.max() < MAX_BEAMS
    return bool(whole) and len(np.unique(values)) >= LEAST_BEAMS


def _by_rings(ring: np.ndarray, elevation_deg: np.ndarray) -> np.ndarray:
    """Number beams by their rings.

    A sensor of which every second or fourth beam was kept has rings of as many steps. And where
    rings are numbers of lasers, and no order of elevation, the beams are counted from below.
    """
    numbers, beam = np.unique(ring, return_inverse=True)
    order = np.argsort(beam, kind="stable")
    middle = _medians(elevation_deg[order], beam[order])
    if _one_above_the_other(middle):
        return ring // np.gcd.reduce(np.diff(numbers))
    return np.argsort(np.argsort(middle))[beam]


def _by_turns(azimuth: np.ndarray, elevation_deg: np.ndarray) -> np.ndarray | None:
    """Number the turns of a scan in the order of its rows; None where they are no beams."""
    step = np.diff(azimuth % (2 * np.pi))
    forwards = np.sign(np.sign(step).sum())
    turn = np.concatenate([[0], np.cumsum(forwards * step < -np.pi)]).astype(np.int64)
    if not forwards or not LEAST_BEAMS <= turn[-1] + 1 <= MAX_BEAMS:
        return None
    onwards = forwards * step >= 0  # a point that is there twice makes no step
    onwards |= forwards * step < -np.pi
    if onwards.mean() < FORWARDS:
        return None
    # Beams stand one above the other. Their elevations alone do not separate them: the lasers of
    # an HDL-64 are some decimetres apart, which is degrees at a near wall.
    return turn if _one_above_the_other(_medians(elevation_deg, turn)) else None


def _by_gaps(elevation_deg: np.ndarray) -> np.ndarray | None:
    """Number the clusters of elevations from below; None where there are no gaps between them."""
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


def _medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the median of the values of each group, whose numbers (N,) rise."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.array([np.median(part) for part in np.split(values, starts[1:])])


def _one_above_the_other(middle: np.ndarray) -> bool:
    """Return whether beams rise or fall in the order of their median elevations (B,)."""
    rising = np.sign(np.diff(middle))
    return bool(abs(rising.sum()) > 0.5 * len(rising))
