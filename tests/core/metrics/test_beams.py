"""Beams of scans: by ring, by the order of a file, by their elevations, and not at all."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.metrics.beams import beam_numbers


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


def agree(found: np.ndarray, beam: np.ndarray) -> bool:
    """Whether two numberings are one to one and neighbours stay neighbours."""
    pairs = np.unique(np.stack([beam, found]), axis=1)
    steps = np.diff(pairs[1])
    return pairs.shape[1] == len(np.unique(beam)) and bool((abs(steps) == 1).all())


@pytest.mark.parametrize("elevations", [np.linspace(15, -15, 16), 2 - 0.1 * np.arange(64)])
def test_beams_of_a_file_in_order_are_its_turns(elevations) -> None:
    points, beam = scan(elevations, 400)
    assert agree(beam_numbers(points), beam)


def test_beams_with_gaps_are_told_apart_in_any_order() -> None:
    points, beam = scan(np.linspace(15, -15, 16), 400)
    order = np.random.default_rng(1).permutation(len(points))
    assert agree(beam_numbers(points[order]), beam[order])


def test_a_ring_is_believed_where_it_is_one() -> None:
    points, beam = scan(2 - 0.1 * np.arange(64), 100)
    order = np.random.default_rng(1).permutation(len(points))
    ring = np.concatenate([points, beam[:, None]], axis=1)[order].astype(np.float32)
    assert np.array_equal(beam_numbers(ring), beam[order])
    stamps = np.concatenate([points, 0.1 * points[:, :1]], axis=1)[order]
    assert len(np.unique(beam_numbers(stamps.astype(np.float32)))) < 20  # bands of elevation
    assert len(beam_numbers(points[:0])) == 0


def test_on_real_scans(shared_data) -> None:
    """KITTI has 64 beams and no ring, nuScenes 32 and one."""
    for name, folder, beams in (
        ("kitti", "kitti_object", 64),
        ("nuscenes", "nuscenes_mini_tables", 32),
    ):
        scan = open_source(name, root=shared_data / folder)[0].companion
        counts = np.bincount(beam_numbers(scan.points))
        assert len(counts) == beams and counts.min() > 0.25 * np.median(counts)
