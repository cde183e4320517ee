"""Errors of depth against a loop over pixels, and values by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lemumo_core.metrics.depth import DepthMetric


def loop(pairs, low: float, high: float) -> list[float]:
    errors, relative, squares, close = [], [], [], []
    for p, t in pairs:
        if np.isnan(p) or np.isnan(t) or not low <= t < high or t <= 0:
            continue
        errors.append(abs(p - t))
        relative.append(abs(p - t) / t)
        squares.append((p - t) ** 2)
        close.append(p > 0 and max(p / t, t / p) < 1.25)
    return [np.mean(errors), np.mean(relative), np.sqrt(np.mean(squares)), np.mean(close)]


def values(scores) -> list[float]:
    return [scores.mae_m, scores.abs_rel, scores.rmse_m, scores.delta]


def test_is_the_loop_in_each_band_and_merges() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.1, 100, (2, 20, 30)).astype(np.float32)
    predicted = (true * rng.uniform(0.6, 1.6, true.shape)).astype(np.float32)
    true[rng.random(true.shape) < 0.3] = np.nan
    true[0, 0] = 0.0
    predicted[rng.random(true.shape) < 0.1] = np.nan
    predicted[1, 1] = 0.0
    metric, other = DepthMetric(), DepthMetric()
    metric.add(predicted[0], true[0])
    other.add(predicted[1], true[1])
    metric.merge(pickle.loads(pickle.dumps(other)))
    pairs = list(zip(predicted.ravel().astype(float), true.ravel().astype(float), strict=True))
    np.testing.assert_allclose(values(metric.scores()), loop(pairs, 0, 80), rtol=1e-9)
    for (low, high), got in zip(
        ((0, 20), (20, 40), (40, 80)), metric.scores_by_band().values(), strict=True
    ):
        np.testing.assert_allclose(values(got), loop(pairs, low, high), rtol=1e-9)
    known = (true > 0) & (true <= 80)
    assert metric.scores().pixels == known.sum()
    assert metric.scores().coverage == pytest.approx((~np.isnan(predicted[known])).mean())


def test_perfect_constant_and_nothing() -> None:
    true = np.array([[10.0, 40.0, np.nan]])
    perfect, double, nothing = DepthMetric(), DepthMetric(), DepthMetric()
    perfect.add(true, true)
    double.add(2 * true, true)
    nothing.add(np.full_like(true, np.nan), true)
    assert values(perfect.scores()) == [0, 0, 0, 1]
    assert values(double.scores()) == pytest.approx([25.0, 1.0, np.sqrt(850), 0.0])
    assert nothing.scores().coverage == 0 and np.isnan(values(nothing.scores())).all()
    assert np.isnan(DepthMetric().scores().coverage)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        DepthMetric().add(np.ones((2, 2)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="infinity"):
        DepthMetric().add(np.full((1, 1), np.inf), np.ones((1, 1)))
    with pytest.raises(ValueError, match="merge"):
        DepthMetric().merge(DepthMetric((0.0, 10.0)))
