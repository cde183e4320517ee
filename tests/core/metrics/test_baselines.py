"""Depth without a network, against the definitions, and where evaluation shows it."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.depth_projection import Returns
from lemumo_core.frame import Detections, Frame, LidarScan, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.metrics.baselines import (
    BASELINES,
    ROW_DEPTH_M,
    ROWS,
    baseline_depth,
    frame_baselines,
)
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.taxonomy import Taxonomy


def returns(u, v, depth_m) -> Returns:
    columns = (np.asarray(x, np.float32) for x in (u, v, depth_m))
    return Returns(*columns, np.arange(len(u)))


def test_nearest_is_that_of_a_search_over_all_returns():
    rng = np.random.default_rng(0)
    shown = returns(*rng.uniform(1, 90, (3, 200)))
    u, v = rng.uniform(-5, 100, (2, 50))
    distance = np.hypot(u[:, None] - shown.u, v[:, None] - shown.v)
    expected = shown.depth_m[distance.argmin(1)]
    np.testing.assert_array_equal(baseline_depth(shown, u, v)["nearest"], expected)
    np.testing.assert_allclose(baseline_depth(shown, u, v)["mean"], shown.depth_m.mean())


@pytest.mark.parametrize("beams", [3, 20])
def test_nearest_is_that_of_a_search_at_every_pixel_of_a_map(beams):
    """Also where most pixels of a column take what is nearest above and below them."""
    rng = np.random.default_rng(3)
    rows, columns = rng.uniform(0, 90, beams), rng.uniform(0, 60, (beams, 25))
    v = (rows[:, None] + rng.uniform(-0.5, 0.5, columns.shape)).ravel()
    shown = returns(columns.ravel(), v, rng.uniform(1, 50, v.size))
    row, column = np.nonzero(rng.random((90, 60)) < 0.9)
    distance = np.hypot(column[:, None] - shown.u, row[:, None] - shown.v)
    expected = shown.depth_m[distance.argmin(1)]
    np.testing.assert_array_equal(baseline_depth(shown, column, row)["nearest"], expected)


def test_linear_is_exact_on_a_plane():
    """Inverse depth of a plane is affine in the image; outside of the returns it is the nearest."""
    rng = np.random.default_rng(1)
    u, v = rng.uniform(0, 100, (2, 300))
    inverse = 0.01 + 0.0004 * u + 0.0007 * v
    found = baseline_depth(returns(u, v, 1 / inverse), np.array([40.0, 61.5]), np.array([50.0, 33]))
    expected = 1 / (0.01 + 0.0004 * np.array([40.0, 61.5]) + 0.0007 * np.array([50.0, 33]))
    np.testing.assert_allclose(found["linear"], expected, rtol=1e-4)
    outside = baseline_depth(returns(u, v, 1 / inverse), np.array([500.0]), np.array([50.0]))
    assert outside["linear"] == outside["nearest"]


@pytest.mark.parametrize("count", [1, 2])
def test_few_returns(count):
    shown = returns(range(count), range(count), [7.0] * count)
    found = baseline_depth(shown, np.array([3.0]), np.array([3.0]))
    for name, depth_m in found.items():
        assert depth_m == 7.0, name


def test_they_stand_beside_depth_on_the_same_pixels() -> None:
    """A model whose depth is the nearest return scores as it does, where its view shows anything;
    what it leaves out is missed coverage of both."""
    camera = Camera(160, 96, 120.0, 120.0, 79.5, 47.5)
    rng = np.random.default_rng(2)
    points = rng.uniform((-20, -8, 8, 0), (20, 8, 40, 1), (6000, 4)).astype(np.float32)
    frame = Frame(1, "front", camera, None, LidarScan(points, np.eye(4), 1))
    masked = mask_returns(frame, "random")
    known = masked.labels.depth_m > 0
    depth_m = np.full((96, 160), np.nan, np.float32)
    depth_m[known] = frame_baselines(masked)["nearest"]
    view = camera.cropped(0, 32, 160, 64)
    nothing = Detections(np.empty((0, 7)), np.empty((0, 4)), np.empty(0), np.empty(0, int))
    labels = np.zeros((64, 160), np.uint8)
    parts = depth_m[32:], np.ones((64, 160), np.float32), labels, view, ("lidar",)
    metric = PerceptionMetric(Taxonomy(("car",), ("road",)))
    summary = metric.add(masked, Perception(1, "front", nothing, *parts))
    found = metric.result()["depth"]
    shown = known[32:].sum() / known.sum()
    assert 0.5 < shown < 0.9 and found["coverage"] == pytest.approx(shown)
    assert found["pixels"] == known.sum()
    assert found["baselines"].keys() == set(BASELINES)
    assert all(one["coverage"] == found["coverage"] for one in found["baselines"].values())
    assert summary.depth_mae_m == summary.nearest_mae_m == found["baselines"]["nearest"]["mae_m"]
    assert summary.linear_mae_m != summary.nearest_mae_m > 0
    assert frame_baselines(masked.__class__(1, "front", camera)) == {}


def test_without_returns_the_answer_is_the_mean_of_the_row() -> None:
    """It is nearer to streets that it was not made of than any one depth everywhere."""
    errors = []
    for frame in SyntheticStreet(0, 4, 192, 96, companion="thermal", frames_per_drive=1):
        depth_m = frame.labels.depth_m
        found = frame_baselines(frame)
        assert list(found) == [ROWS]
        rows = np.full((96, 192), np.nan, np.float32)
        rows[depth_m > 0] = found[ROWS]
        true_m = np.where((depth_m > 0) & (depth_m < 80), depth_m, np.nan)
        errors.append(
            (np.nanmean(abs(rows - true_m)), np.nanmean(abs(true_m - np.nanmedian(true_m))))
        )
        last = rows[90:][np.isfinite(rows[90:])]
        assert (last == ROW_DEPTH_M[-1]).all() and len(last)
    ours, constant = np.mean(errors, axis=0)
    assert ours < 0.9 * constant
