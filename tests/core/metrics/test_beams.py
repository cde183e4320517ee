"""Beams of scans: by ring, by the order of a file, by their elevations, and not at all."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.depth_projection import T_OPTICAL_BODY
from lemumo_core.frame import LidarScan
from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.beams import beam_numbers, upright_axes


def scan(elevations_deg, azimuths: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Turns of beams one after the other, from the front on, and the beam of each return."""
    rng = np.random.default_rng(seed)
    beam = np.repeat(np.arange(len(elevations_deg)), azimuths)
    azimuth = np.tile((np.arange(azimuths) + 0.5) / azimuths * 2 * np.pi, len(elevations_deg))
    elevation = np.radians(np.asarray(elevations_deg))[beam]
    kept = rng.random(len(beam)) < 0.9
    distance = rng.uniform(5, 60, len(beam))
    flat = distance * np.cos(elevation)
    points = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation), distance],
        axis=1,
    )
    return points[kept].astype(np.float32), beam[kept]


def beams_of(points: np.ndarray, T_camera_lidar: np.ndarray = T_OPTICAL_BODY) -> np.ndarray:
    return beam_numbers(LidarScan(points, T_camera_lidar, 0))


def with_ring(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    return np.concatenate([points, ring[:, None]], axis=1).astype(np.float32)


def agree(found: np.ndarray, beam: np.ndarray) -> bool:
    """Whether two numberings are one to one and neighbours stay neighbours."""
    pairs = np.unique(np.stack([beam, found]), axis=1)
    steps = np.diff(pairs[1])
    return pairs.shape[1] == len(np.unique(beam)) and bool((abs(steps) == 1).all())


@pytest.mark.parametrize("elevations", [np.linspace(15, -15, 16), 2 - 0.1 * np.arange(64)])
def test_beams_of_a_file_in_order_are_its_turns(elevations) -> None:
    points, beam = scan(elevations, 400)
    assert agree(beams_of(points), beam)


def test_beams_with_gaps_are_told_apart_in_any_order() -> None:
    points, beam = scan(np.linspace(15, -15, 16), 400)
    order = np.random.default_rng(1).permutation(len(points))
    assert agree(beams_of(points[order]), beam[order])


def test_a_ring_is_believed_where_it_is_one() -> None:
    points, beam = scan(2 - 0.1 * np.arange(64), 100)
    order = np.random.default_rng(1).permutation(len(points))
    ring = np.concatenate([points, beam[:, None]], axis=1)[order].astype(np.float32)
    assert np.array_equal(beams_of(ring), beam[order])
    stamps = np.concatenate([points, 0.1 * points[:, :1]], axis=1)[order]
    assert len(np.unique(beams_of(stamps.astype(np.float32)))) < 20  # bands of elevation
    assert len(beams_of(points[:0])) == 0


@pytest.mark.parametrize(("step", "first"), [(1, 1), (2, 0), (2, 1), (4, 3)])
def test_neighbours_are_known_where_only_some_beams_were_kept(step, first) -> None:
    """Every second of them is masked, not all or none."""
    points, beam = scan(2 - 0.4 * np.arange(16), 100)
    assert agree(beams_of(with_ring(points, step * beam + first)), beam)


def test_lasers_that_are_numbered_in_no_order_of_elevation_are_sorted() -> None:
    """As a VLP-16 numbers them in its packets: -15, 1, -13, 3, ... degrees."""
    points, beam = scan(np.linspace(15, -15, 16), 100)
    laser = np.where(beam < 8, 15 - 2 * beam, 30 - 2 * beam)
    assert agree(beams_of(with_ring(points, laser)), beam)


@pytest.mark.parametrize("nothing", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("spacing", [0.1, 2.0])
def test_rows_without_a_return_and_twofold_ones_hide_no_beam(nothing, spacing) -> None:
    points, beam = scan(2 - spacing * np.arange(16), 400)
    points, beam = points.repeat(2, axis=0), beam.repeat(2)
    lost = np.random.default_rng(2).random(len(points)) < 0.3
    points[lost, :3] = nothing
    found = beams_of(points)
    assert agree(found[~lost], beam[~lost]) and not found[lost].any()


TO_OPTICAL = T_OPTICAL_BODY[:3, :3]
ON_ITS_SIDE = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
TO_THE_LEFT = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]) @ TO_OPTICAL


@pytest.mark.parametrize(
    ("R_lidar_body", "R_camera_body", "upside_down"),
    [
        (np.eye(3), TO_OPTICAL, False),
        (np.diag([1.0, -1, -1]), TO_OPTICAL, False),
        (TO_OPTICAL, TO_OPTICAL, False),
        (TO_OPTICAL, TO_THE_LEFT, False),
        (np.eye(3), ON_ITS_SIDE @ TO_OPTICAL, False),
        (np.eye(3), ON_ITS_SIDE.T @ TO_OPTICAL, False),
        (np.eye(3), np.diag([-1.0, -1, 1]) @ TO_OPTICAL, True),
    ],
    ids=["level", "z down", "z forward", "z aside", "portrait", "portrait, left", "upside down"],
)
def test_beams_lie_above_each_other_in_any_frame(R_lidar_body, R_camera_body, upside_down) -> None:
    """Upwards is the image's; a camera on its side does not say where that is along the axis."""
    points, beam = scan(2 - 1.5 * np.arange(16), 400)
    points[:, :3] = points[:, :3] @ R_lidar_body.T.astype(np.float32)
    order = np.random.default_rng(1).permutation(len(points))
    lidar = LidarScan(points[order], make_T(R_camera_body @ R_lidar_body.T, np.zeros(3)), 0)
    assert agree(beam_numbers(lidar), beam[order])
    axes = upright_axes(lidar)
    assert np.linalg.det(axes) == 1
    up = np.array([0.0, 0, -1 if upside_down else 1])
    np.testing.assert_array_equal(axes[2] @ R_lidar_body, up)


def test_on_real_scans(shared_data) -> None:
    """KITTI has 64 beams and no ring, nuScenes 32 and one."""
    for name, folder, beams in (
        ("kitti", "kitti_object", 64),
        ("nuscenes", "nuscenes_mini_tables", 32),
    ):
        scan = open_source(name, root=shared_data / folder)[0].companion
        counts = np.bincount(beam_numbers(scan))
        assert len(counts) == beams and counts.min() > 0.25 * np.median(counts)
