"""The LiDAR: beams where the sensor has them, ranges true to the world, losses that make sense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.geometry.se3 import make_T
from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world.lidar import PATTERNS, RANGE_NOISE_M, sweeps
from lemumo_core.world.street import Drive

CPU = torch.device("cpu")
HEIGHT_M = 1.9
T_EGO_LIDAR = make_T(np.eye(3), np.array([0.0, 0.0, HEIGHT_M]))


@pytest.fixture(scope="module")
def clear_drive() -> Drive:
    return next(d for d in (Drive(k, "train") for k in range(20)) if d.weather.visibility_m > 300)


@pytest.mark.parametrize("beams", sorted(PATTERNS))
def test_returns_lie_on_the_beams(clear_drive, beams):
    (sweep,) = sweeps(clear_drive, beams, T_EGO_LIDAR, [2.0], [(1,)], CPU)
    x, y, z, intensity, ring = sweep.points.T
    elevation = np.rad2deg(np.arctan2(z, np.hypot(x, y)))
    pattern = np.array(PATTERNS[beams].elevations)
    off = np.abs(elevation - pattern[ring.astype(int)])
    assert len(pattern) == beams and off.max() < 1e-3
    step = 360 / PATTERNS[beams].azimuths
    azimuth = np.rad2deg(np.arctan2(y, x)) / step - 0.5
    assert np.abs(azimuth - azimuth.round()).max() < 1e-2
    assert sweep.points.dtype == np.float32 and len(sweep.labels) == len(sweep.points)
    assert intensity.min() >= 0 and intensity.max() <= 255
    # All around, and not more than one return a shot.
    assert {*np.unique(np.arctan2(y, x) // (np.pi / 2))} == {-2.0, -1.0, 0.0, 1.0}
    assert beams * PATTERNS[beams].azimuths / 4 < len(x) < beams * PATTERNS[beams].azimuths


def test_the_road_is_flat_but_for_the_range_noise(clear_drive):
    (sweep,) = sweeps(clear_drive, 64, T_EGO_LIDAR, [2.0], [(1,)], CPU)
    road = sweep.labels == SEGMENTATION_IDS["road"]
    x, y, z, *_ = sweep.points[road].astype(np.float64).T
    range_m = np.sqrt(x * x + y * y + z * z)
    true_m = range_m * -HEIGHT_M / z
    error = range_m - true_m
    near = range_m < 20
    assert near.sum() > 5000
    assert abs(error[near].mean()) < 0.002
    assert error[near].std() == pytest.approx(RANGE_NOISE_M, rel=0.05)


def test_fog_loses_far_returns():
    drive, far = Drive(1, "train"), []
    for visibility_m in (400.0, 40.0):
        drive.weather = replace(drive.weather, visibility_m=visibility_m)
        (sweep,) = sweeps(drive, 32, T_EGO_LIDAR, [2.0], [(1,)], CPU)
        range_m = np.linalg.norm(sweep.points[:, :3], axis=1)
        far.append(((range_m > 40) & (range_m < 60)).sum())
    # exp(-50 / 40) against exp(-50 / 400).
    assert 0.2 < far[1] / far[0] < 0.5


def test_turns_together_equal_turns_alone(clear_drive):
    together = sweeps(clear_drive, 16, T_EGO_LIDAR, [1.0, 1.1], [(1,), (2,)], CPU)
    alone = sweeps(clear_drive, 16, T_EGO_LIDAR, [1.1], [(2,)], CPU)[0]
    assert np.array_equal(together[1].labels, alone.labels)
    np.testing.assert_allclose(together[1].points, alone.points, atol=1e-4)
    again = sweeps(clear_drive, 16, T_EGO_LIDAR, [1.1], [(2,)], CPU)[0]
    assert np.array_equal(again.points, alone.points)


def test_a_moving_sweep_smears_by_the_way_driven(clear_drive):
    """Poles seen early and late in the turn: each return lies where the vehicle then was."""
    (still,) = sweeps(clear_drive, 64, T_EGO_LIDAR, [2.0], [(1,)], CPU)
    (moving,) = sweeps(clear_drive, 64, T_EGO_LIDAR, [2.0], [(1,)], CPU, moving=True)
    shifts = []
    for sweep in (still, moving):
        built = sweep.points[sweep.labels == SEGMENTATION_IDS["building"], :3].astype(np.float64)
        azimuth = np.arctan2(built[:, 1], built[:, 0])
        # Clockwise from the rear: the last quarter of the turn looks to the rear right.
        shifts.append(built[(azimuth > -np.pi) & (azimuth < -np.pi / 2)])
    # Bring the late returns to where the turn began: they must meet the standing world again.
    way = np.linalg.inv(clear_drive.T_world_ego(2.0)) @ clear_drive.T_world_ego(2.0 + 0.1 * 6.5 / 8)
    still_points, late = shifts
    assert np.linalg.norm(way[:3, 3]) > 0.3

    def gap(points: np.ndarray) -> float:
        sample = points[:: max(1, len(points) // 400)]
        return float(np.median([np.linalg.norm(still_points - p, axis=1).min() for p in sample]))

    back = late @ way[:3, :3].T + way[:3, 3]
    assert gap(back) <= gap(late)
