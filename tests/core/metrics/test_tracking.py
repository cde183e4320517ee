"""AMOTA and its kin against nuscenes-devkit, and the rules that the devkit does not have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs: pip install '.[tracking]'")

from lemumo_core.frame import NO_TRACK, Tracks
from lemumo_core.metrics.objects import ObjectFilter
from lemumo_core.metrics.tracking import TrackingMetric
from lemumo_core.metrics.true_tracks import TrueMotion, TrueTracks
from tests.helpers.tracking_cases import CASES, CLASSES, Box, draw

ORACLE = json.loads(Path(__file__).with_name("nuscenes_tracking.json").read_text())["cases"]
DEPTH_M = 100.0
"""Depth of the drawn places' origin, so that all lie ahead of the camera."""
ALL = ObjectFilter(max_depth_m=1e3)


def add(metric: TrackingMetric, true: list[Box], found: list[Box], counts=None) -> None:
    """Add a frame of drawn boxes: x stays x, and y becomes the depth."""
    boxes = np.array([[b.x, 0, b.y + DEPTH_M, 1, 1, 1, 0] for b in found]).reshape(-1, 7)
    scores = np.array([b.score for b in found])
    ids, kinds = (np.array(c, int) for c in ([b.track for b in found], [b.class_id for b in found]))
    unknown = np.zeros((len(found), 3))
    centers = np.array([[b.x, 0, b.y + DEPTH_M] for b in true]).reshape(-1, 3)
    truth = TrueTracks(
        tuple(str(b.track) for b in true),
        np.array([b.class_id for b in true], int),
        centers,
        np.ones(len(true), bool) if counts is None else np.array(counts),
        np.zeros((len(true), 3)),
    )
    tracks = Tracks(ids, boxes[:, :3], unknown, np.zeros((len(found), 6, 6)))
    metric.add(boxes, scores, kinds, tracks, truth)


def metric_of(name: str) -> TrackingMetric:
    metric = TrackingMetric(CLASSES, ALL)
    for recording in draw(name):
        metric.begin_sequence()
        for true, found in recording:
            add(metric, true, found)
    return metric


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_nuscenes(name: str) -> None:
    found = metric_of(name).result()["classes"]
    for kind, expected in ORACLE[name].items():
        for key, value in expected.items():
            if value is None:
                assert found[kind][key] is None, (kind, key)
            else:
                assert found[kind][key] == pytest.approx(value, abs=1e-6), (kind, key)


def test_parts_that_are_stored_and_merged_score_as_the_whole() -> None:
    whole, parts = metric_of("crowded"), TrackingMetric(CLASSES, ALL)
    for recording in draw("crowded"):
        part = TrackingMetric(CLASSES, ALL)
        for true, found in recording:
            add(part, true, found)
        restored = TrackingMetric(CLASSES, ALL)
        restored.restore(part.state())
        parts.merge(restored)
    assert parts.result() == whole.result()
    with pytest.raises(ValueError, match="tracks of"):
        parts.merge(TrackingMetric(("tram",)))


def test_what_does_not_count_counts_neither_way() -> None:
    metric = TrackingMetric(CLASSES, ObjectFilter(max_depth_m=200.0))
    hidden, seen = Box(1, 0, 0.0, 20.0, 0.9), Box(2, 0, 9.0, 20.0, 0.9)
    for _ in range(3):
        far, untracked = Box(3, 0, 0.0, 200.0, 0.9), Box(NO_TRACK, 0, 0.0, 50.0, 0.9)
        add(metric, [hidden, seen], [hidden, seen, far, untracked], [False, True])
    scores = metric.scores()["car"]
    assert (scores.objects, scores.false_positives, scores.mota) == (3, 0, 1.0)
    empty = TrackingMetric(CLASSES).result()
    assert empty["classes"] == {} and empty["amota"] is None and empty["objects"] == 0


def test_velocities_of_objects_are_those_over_ground() -> None:
    """Seen from a camera that drives past and turns, a parked car stands still."""
    motion = TrueMotion()
    for i in range(3):
        a = 0.2 * i
        T = np.eye(4)
        T[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
        T[:3, 3] = (0, 0, 1.5 * i)
        places = np.array([[4.0, 1, 20], [0.5 * i, 1, 30]])
        centers = (places - T[:3, 3]) @ T[:3, :3]
        truth = TrueTracks(
            ("a", "b"), np.zeros(2, int), centers, np.ones(2, bool), centers * np.nan
        )
        found = motion.add(truth, T, 100_000_000 * i)
    np.testing.assert_allclose(found.velocities @ T[:3, :3].T, [[0, 0, 0], [5, 0, 0]], atol=1e-9)
