"""DINO's and iBOT's losses, and their targets, by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lemumo_core.losses import self_distillation
from lemumo_core.losses.self_distillation import sinkhorn_knopp, token_loss, view_loss


def log_probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).log_softmax(-1)


def test_assignments_are_those_of_optimal_transport(monkeypatch) -> None:
    """They are diag(u) exp(cosines / temperature) diag(v), and use all prototypes alike."""
    monkeypatch.setattr(self_distillation, "ITERATIONS", 200)
    cosines = torch.rand(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sinkhorn_knopp(cosines, 0.2).numpy()
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.sum(0), 12 / 5, rtol=1e-9)
    scales = np.log(found) - cosines.numpy() / 0.2  # a sum of one value a row and one a column
    centered = scales - scales.mean(0) - scales.mean(1, keepdims=True) + scales.mean()
    np.testing.assert_allclose(centered, 0.0, atol=1e-9)


def test_a_few_iterations_stay_near_the_nearest_prototype() -> None:
    near = torch.eye(4) * 0.9
    assert torch.equal(sinkhorn_knopp(near, 0.04).argmax(1), torch.arange(4))
    alike = sinkhorn_knopp(torch.ones(6, 4), 0.04)
    assert torch.allclose(alike, torch.full_like(alike, 0.25))


def test_each_view_of_the_teacher_meets_all_others_of_the_student() -> None:
    log_p, targets = log_probabilities(4, 3, 5), log_probabilities(2, 3, 5, seed=1).exp()
    pairs = [
        -sum(targets[g, b, k] * log_p[v, b, k] for k in range(5)).item()
        for g in range(2)
        for v in range(4)
        for b in range(3)
        if g != v
    ]
    assert view_loss(log_p, targets).item() == pytest.approx(np.mean(pairs), rel=1e-12)


def test_views_count_alike_however_many_of_their_tokens_are_masked() -> None:
    log_p, targets = log_probabilities(5, 6), log_probabilities(5, 6, seed=1).exp()
    entropies = -(targets * log_p).sum(1)
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2], dtype=torch.float64)
    expected = (entropies[:3].mean() + entropies[3:].mean()) / 2
    assert token_loss(log_p, targets, weights).item() == pytest.approx(expected.item(), rel=1e-12)
    assert token_loss(log_p[:0], targets[:0], weights[:0]).item() == 0.0


def test_losses_are_least_where_student_and_teacher_agree() -> None:
    targets = log_probabilities(2, 3, 5).exp()
    entropy = -(targets * targets.log()).sum(-1).mean().item()
    same = view_loss(targets.log(), targets.flip(0))
    assert same.item() == pytest.approx(entropy) and entropy < math.log(5)
    assert view_loss(log_probabilities(2, 3, 5, seed=2), targets.flip(0)) > same
