"""Measures of collapse against loops from the definition, known values and SIGReg itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from lemumo_core.losses.sigreg import directions, sigreg
from lemumo_core.metrics.collapse import (
    embedding_std,
    epps_pulley,
    gaussian_p_values,
    position_share,
    rankme,
    sample_cosine_margin,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_rankme_is_its_definition():
    x = normal(20, 6) * [5, 3, 1, 1, 0.1, 0.01] + 2
    # Singular values by another road: roots of the eigenvalues of the Gram matrix.
    values = [math.sqrt(value) for value in np.linalg.eigvalsh(x.T @ x)]
    entropy = 0.0
    for value in values:
        p = value / sum(values) + 1e-7
        entropy -= p * math.log(p)
    assert_allclose(rankme(x), math.exp(entropy), rtol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_counts_equal_directions(rank: int):
    orthogonal = np.linalg.qr(normal(32, rank))[0]
    assert_allclose(rankme(7 * orthogonal @ np.eye(rank, 8)), rank, rtol=1e-4)


def test_constant_rows_have_rank_one_and_no_spread():
    for constant in (np.ones((16, 512)) * 3, np.zeros((16, 512))):
        assert_allclose(rankme(constant), 1.0, atol=1e-3)
        assert embedding_std(constant) < 1e-12


def test_embedding_std_is_one_for_uniform_directions_at_any_scale():
    x = normal(512, 128)
    assert_allclose(embedding_std(x), 1.0, atol=0.01)
    assert_allclose(embedding_std(1e-3 * x), embedding_std(x), rtol=1e-9)
    assert embedding_std(x + 100) < 0.02


def test_epps_pulley_is_what_sigreg_minimises():
    projections = normal(3, 24, 16) * 1.3
    slices = directions(16, step=5).numpy()
    ours = np.mean([epps_pulley(view @ slices).mean() for view in projections])
    assert_allclose(ours, sigreg(torch.from_numpy(projections), step=5).item(), rtol=1e-10)


@pytest.mark.parametrize("samples", [8, 64])
def test_p_values_of_normal_batches_are_uniform(samples: int):
    """In many dimensions slices are nearly orthogonal, their samples nearly independent."""
    p = np.concatenate([gaussian_p_values(normal(samples, 4000, seed=i), i) for i in range(4)])
    for level in (0.05, 0.25, 0.5, 0.75):
        deviation = 4 * math.sqrt(level * (1 - level) / len(p))
        assert abs((p < level).mean() - level) < deviation + 0.01
    assert p.min() > 0.0 and p.max() <= 1.0


def test_p_values_reject_collapse_and_wrong_scale():
    assert (gaussian_p_values(np.zeros((64, 128)), 0) < 1e-3).all()
    assert np.median(gaussian_p_values(2 * normal(64, 128), 0)) < 1e-3
    assert np.median(gaussian_p_values(normal(64, 128), 0)) > 0.3


@pytest.mark.parametrize("measure", [rankme, embedding_std, lambda x: gaussian_p_values(x, 0)])
def test_what_is_no_matrix_of_numbers_is_named(measure):
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        measure(np.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        measure(np.array([[1.0, np.nan]]))


def test_a_code_of_positions_is_seen_as_such():
    rng = np.random.default_rng(0)
    of_position, of_sample = rng.standard_normal((1, 30, 16)), rng.standard_normal((20, 1, 16))
    free = rng.standard_normal((20, 30, 16))
    code = np.broadcast_to(of_position, free.shape)
    assert_allclose(position_share(code), 1.0)
    assert_allclose(position_share(5 * free + 3), 1 / 20, rtol=0.15)
    assert_allclose(position_share(of_position + free), (1 + 1 / 20) / 2, rtol=0.15)
    assert position_share(np.ones((2, 3, 4))) == 0.0
    assert sample_cosine_margin(code) < -0.9
    assert sample_cosine_margin(np.broadcast_to(of_sample, free.shape)) > 0.9
    assert abs(sample_cosine_margin(free)) < 0.01


def test_the_margin_is_its_definition():
    x = np.random.default_rng(1).standard_normal((3, 4, 5)) + 1
    units = x / np.linalg.norm(x, axis=-1, keepdims=True)
    cosines = np.einsum("sid,tjd->sitj", units, units)
    own = [cosines[s, i, s, j] for s in range(3) for i in range(4) for j in range(4) if i != j]
    other = [cosines[s, i, t, i] for i in range(4) for s in range(3) for t in range(3) if s != t]
    assert_allclose(sample_cosine_margin(x), np.mean(own) - np.mean(other))
