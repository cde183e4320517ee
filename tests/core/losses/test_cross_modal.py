"""Contrastive, code and decoupling losses against independent references and known values."""

from __future__ import annotations

import math

import pytest
import torch

from lemumo_core.losses.contrastive import (
    code_log_posterior,
    code_matching,
    info_nce,
    symmetric_info_nce,
)
from lemumo_core.losses.decoupling import commitment, gaussian_kl, orthogonality
from lemumo_core.losses.loss import mean_of_valid
from lemumo_core.losses.occupancy import intensity_loss, occupancy_loss


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def all_of(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(x), dtype=torch.bool)


def test_info_nce_is_the_log_softmax() -> None:
    a, b = unit(9, 5), unit(9, 5, seed=1)
    kept = torch.arange(9) % 3 > 0
    x, y = a[kept], b[kept]
    expected = torch.nn.functional.cross_entropy(x @ y.T / 0.07, torch.arange(len(x)))
    assert info_nce(a, b, kept, 0.07).item() == pytest.approx(expected.item(), rel=1e-12)


def test_symmetric_info_nce_is_that_of_clip() -> None:
    a, b = unit(9, 5), unit(9, 5, seed=1)
    kept, target = torch.arange(9) % 3 > 0, torch.arange(6)
    logits = a[kept] @ b[kept].T / 0.2
    expected = sum(torch.nn.functional.cross_entropy(x, target) for x in (logits, logits.T)) / 2
    found = symmetric_info_nce(3 * a, 7 * b, kept, 0.2)  # lengths do not count
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_info_nce_of_known_rows() -> None:
    same = unit(1, 6).expand(7, 6)
    assert info_nce(same, same, all_of(same), 0.07).item() == pytest.approx(math.log(7))
    eye = torch.eye(4, dtype=torch.float64)
    known = math.log(1 + 3 * math.exp(-1 / 0.07))
    assert known == pytest.approx(1.87e-6, rel=1e-2)
    assert info_nce(eye, eye, all_of(eye), 0.07).item() == pytest.approx(known, rel=1e-6)


def test_without_a_pair_losses_are_zero_and_finite() -> None:
    a = unit(5, 4).requires_grad_()
    nothing = torch.zeros(5, dtype=torch.bool)
    p = code_log_posterior(a, unit(3, 4), 1.0)
    total = info_nce(a, a, nothing, 0.07) + code_matching(p, p, nothing)
    total = total + commitment(a, a.detach(), a.detach(), nothing)
    empty = a[:0, 0]
    total = total + occupancy_loss(empty, nothing[:0]) + intensity_loss(empty, empty, nothing[:0])
    total.backward()
    assert total.item() == 0.0 and torch.equal(a.grad, torch.zeros_like(a))
    assert mean_of_valid(torch.ones(3), torch.tensor([True, False, True])).item() == 1.0


def test_code_matching_is_the_loop() -> None:
    codes, a, b = unit(5, 4), unit(3, 4, seed=1), unit(3, 4, seed=2)
    posteriors = []
    for rows in (a, b):
        distances = [[-math.dist(r.tolist(), e.tolist()) / 0.5 for e in codes] for r in rows]
        sums = [sum(map(math.exp, row)) for row in distances]
        posteriors.append(
            [[math.exp(x) / s for x in row] for row, s in zip(distances, sums, strict=True)]
        )
    p, q = posteriors
    loss = 0.0
    for i in range(3):
        scores = [
            sum(p[i][k] * math.log(q[j][k]) + q[i][k] * math.log(p[j][k]) for k in range(5))
            for j in range(3)
        ]
        loss -= math.log(math.exp(scores[i]) / sum(map(math.exp, scores))) / 3
    ours = code_matching(*(code_log_posterior(x, codes, 0.5) for x in (a, b)), all_of(a))
    assert ours.item() == pytest.approx(loss, rel=1e-9)


def test_a_feature_on_its_code_has_a_finite_gradient() -> None:
    codes = unit(6, 4).float()
    a = codes[:3].clone().requires_grad_()
    p = code_log_posterior(a, codes, 1.0)
    code_matching(p, p, all_of(a)).backward()
    assert a.grad.isfinite().all()


def test_a_lower_temperature_tells_pairs_from_random_rows() -> None:
    codes, a, b = unit(40, 16), unit(30, 16, seed=1), unit(30, 16, seed=2)

    def gap(temperature: float) -> float:
        p, q = (code_log_posterior(x, codes, temperature) for x in (a, b))
        return (code_matching(p, q, all_of(a)) - code_matching(p, p, all_of(a))).item()

    assert 0 < gap(1.0) < 0.1 < gap(0.1)


def test_commitment_pulls_features_and_not_codes() -> None:
    f, own, other = (unit(4, 3, seed=s).requires_grad_() for s in range(3))
    loss = commitment(f, own, other, all_of(f))
    expected = 0.25 * (2 * ((f - own) ** 2).mean() + ((f - other) ** 2).mean())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    assert f.grad.abs().min() > 0 and own.grad is None and other.grad is None


def test_orthogonality() -> None:
    shared = torch.zeros(8, 4, dtype=torch.float64)
    specific = shared.clone()
    shared[::2, 0], specific[1::2, 1] = 1.0, 3.0  # columns that are orthogonal
    assert orthogonality(shared, specific).item() < 1e-6
    f, g = unit(50, 4), 5 * unit(50, 4, seed=1)
    once, twice = (orthogonality(f.repeat(n, 1), g.repeat(n, 1)).item() for n in (1, 2))
    assert twice == pytest.approx(2 * once)
    once, twice = (orthogonality(f.repeat(n, 1), g.repeat(n, 1), True).item() for n in (1, 2))
    assert twice == pytest.approx(once)
    same = unit(1, 64).expand(600, 64)
    assert orthogonality(same, same).item() == pytest.approx(600 / 64**2)


def test_kl_is_that_of_normal_distributions() -> None:
    x = 3 + 2 * unit(40, 3)
    parts = []
    for column in x.T:
        ours = torch.distributions.Normal(column.mean(), column.var(unbiased=False).sqrt())
        parts.append(torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)))
    assert gaussian_kl(x).item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-9)


def test_occupancy_of_undecided_logits_is_ln_2() -> None:
    occupied = torch.tensor([True, False, False])
    assert occupancy_loss(torch.zeros(3), occupied).item() == pytest.approx(math.log(2))
    found = intensity_loss(torch.tensor([0.1, 0.9]), torch.tensor([0.4, 0.0]), occupied[:2])
    assert found.item() == pytest.approx(0.3)
