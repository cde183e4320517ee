"""DeCUR's loss: known values, a reference in loops, invariances, and what it teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lemumo_core.losses.decur import EPSILON, DecurLoss, TermWeights, rank_floor
from lemumo_core.metrics.collapse import rankme

CROSS = TermWeights(0.0, 0.0, 0.5, 0.5)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def whitened(samples: int, dims: int) -> torch.Tensor:
    """Uncorrelated dimensions of mean 0 and a variance so large that epsilon does not show."""
    x = gaussian(samples, dims)
    q, _ = torch.linalg.qr(x - x.mean(0))
    return 1e4 * q


def terms_of(loss: DecurLoss, *embeddings: torch.Tensor) -> dict[str, float]:
    """Terms for image and image', companion and companion'."""
    stacked = torch.stack(embeddings).unflatten(0, (2, 2))
    return {name: value.item() for name, value in loss(stacked).terms.items()}


@pytest.mark.parametrize("gram", [False, True])
def test_values_of_whitened_embeddings(gram) -> None:
    loss = DecurLoss(common=0.75, gram=gram)
    both = whitened(256, 128)
    x, y = both[:, :64], both[:, 64:]
    alike, apart = terms_of(loss, x, x, x, x), terms_of(loss, x, y, y, x)
    expected = {"image": 0, "companion": 0, "common": 0, "unique": 16, "above_floor": 16 / 6}
    assert alike == pytest.approx(expected, abs=1e-6)
    expected = {"image": 64, "companion": 64, "common": 48, "unique": 0}
    assert expected | {"above_floor": 128 / 3 + 8} == pytest.approx(apart, abs=1e-6)


def test_values_of_independent_embeddings() -> None:
    n, k = 256, 1024
    found = terms_of(DecurLoss(), *gaussian(4, n, k))
    expected = k + k / n + 0.0051 * k * (k - 1) / n
    assert found["image"] == pytest.approx(expected, rel=0.01)
    assert found["companion"] == pytest.approx(expected, rel=0.01)


def in_loops(x: np.ndarray, common: int, weight: float) -> float:
    """The loss by its formula, one entry of a matrix at a time, with the reference's weights."""
    x = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + EPSILON)
    samples, dims = x.shape[2:]

    def term(a: np.ndarray, b: np.ndarray, which: range, target: float) -> float:
        total = 0.0
        for i in which:
            for j in which:
                c = sum(a[n, i] * b[n, j] for n in range(samples)) / samples
                total += (c - target) ** 2 if i == j else weight * c**2
        return total

    intra = sum(term(*x[m], range(dims), 1.0) for m in (0, 1))
    cross = term(x[0, 0], x[1, 0], range(common), 1.0)
    cross += term(x[0, 0], x[1, 0], range(common, dims), 0.0)
    return (intra + cross / 2) / 3


@pytest.mark.parametrize("samples", [5, 12])
@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_both_forms_are_the_formula(samples, common) -> None:
    x = gaussian(2, 2, samples, 8).requires_grad_()
    direct, gram = (DecurLoss(common, gram=way)(x).total for way in (False, True))
    torch.testing.assert_close(direct, gram, atol=1e-10, rtol=0)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (direct, gram)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)
    expected = in_loops(x.detach().numpy(), round(8 * common), 0.0051)
    assert direct.item() == pytest.approx(expected, rel=1e-10)
    assert torch.equal(DecurLoss(common)(x).total, gram if samples < 8 else direct)


def test_what_it_does_not_depend_on() -> None:
    loss, x = DecurLoss(0.75), gaussian(2, 2, 40, 16)
    value = loss(x).total.item()

    def same(changed: torch.Tensor) -> bool:
        return loss(changed).total.item() == pytest.approx(value, rel=1e-4)

    swap = torch.arange(16)
    assert same(x[:, :, torch.randperm(40, generator=torch.Generator().manual_seed(1))])
    assert same(x * gaussian(16, seed=2).abs() + 3)
    swap[[0, 5]] = swap[[5, 0]]  # both common
    assert same(x[..., swap])
    swap[[0, 15]] = swap[[15, 0]]
    assert not same(x[..., swap])


def test_a_flipped_dimension_no_longer_agrees() -> None:
    x = whitened(64, 8)
    flipped = x * torch.tensor([-1.0, 1, 1, 1, 1, 1, 1, 1])
    assert terms_of(DecurLoss(0.5), x, x, flipped, flipped)["common"] == pytest.approx(4, abs=1e-6)


def test_which_views_and_blocks_the_terms_compare() -> None:
    x = gaussian(2, 2, 20, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(DecurLoss(0.5, weights=CROSS)(x).total, x)
    assert (gradient[:, 1] == 0).all() and (gradient[:, 0] != 0).any()
    # Common dimensions of the image with unique ones of the companion are free.
    y = whitened(64, 16)
    a, b = y[:, :8].clone(), y[:, 8:].clone()
    a[:, 0], b[:, 7] = y[:, 3], y[:, 3]
    before, after = (terms_of(DecurLoss(0.5), a, a, z, z) for z in (y[:, 8:], b))
    assert before["common"] == pytest.approx(after["common"], abs=1e-6)
    assert before["unique"] == pytest.approx(after["unique"], abs=1e-6)


def test_all_common_it_is_barlow_twins_between_modalities() -> None:
    x = gaussian(2, 2, 20, 8).requires_grad_()
    total = DecurLoss(1.0, weights=TermWeights(0, 0, 1, 0))(x).total
    a, b = (nn.functional.batch_norm(x[m, 0], None, None, training=True) for m in (0, 1))
    c = a.T @ b / 20
    diagonal = c.diagonal()
    off = c - torch.diag_embed(diagonal)
    barlow = (diagonal - 1).square().sum() + 0.0051 * off.square().sum()
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (total, barlow)]
    torch.testing.assert_close(total, barlow)
    torch.testing.assert_close(*gradients)


def test_a_constant_encoder_is_no_minimum() -> None:
    found = terms_of(DecurLoss(), *torch.ones(4, 20, 8))
    assert found["image"] == pytest.approx(8) and found["companion"] == pytest.approx(8)


def test_views_that_agree_reach_the_rank_floor() -> None:
    floor = rank_floor(torch.tensor(17.0), 64, 0.0051).item()
    assert floor == pytest.approx(0.9792, abs=1e-4)
    x = gaussian(17, 64).requires_grad_()
    loss = DecurLoss(weights=TermWeights(1, 0, 0, 0), gram=True)
    optimizer = torch.optim.LBFGS([x], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss(x.expand(2, 2, -1, -1)).total
        total.backward()
        return total

    optimizer.step(closure)
    above = loss(x.expand(2, 2, -1, -1)).terms["above_floor"].item()
    assert abs(above) < 1e-3 * floor


@pytest.mark.parametrize("gram", [False, True])
def test_samples_count_for_the_modalities_that_they_have(gram) -> None:
    """As if the others were not there, whatever is in their rows."""
    x = gaussian(2, 2, 12, 8)
    loss = DecurLoss(0.5, gram=gram)
    present = torch.ones(12, 2)
    present[9:, 1] = 0.0
    x[1, :, 9:] = torch.nan
    found = loss(x, present).terms
    without = loss(x[:, :, :9]).terms
    assert found["companion"].item() == pytest.approx(without["companion"].item(), rel=1e-9)
    image = loss(x[:1].expand(2, -1, -1, -1)).terms["image"]
    assert found["image"].item() == pytest.approx(image.item(), rel=1e-9)
    present[:, 1] = 0.0
    leaves = x.nan_to_num().requires_grad_()
    total = loss(leaves, present).total
    assert torch.isfinite(torch.autograd.grad(total, leaves)[0]).all()


def test_bfloat16_is_summed_in_float32() -> None:
    x = gaussian(2, 2, 20, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = DecurLoss()(x).total
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), DecurLoss()(x.double()).total, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecurLoss(common=1.5), "common is 1.5"),
        (lambda: DecurLoss(off_diagonal=-1), "off_diagonal is -1"),
        (lambda: TermWeights(0, 0, 0, 0), "nor all 0"),
        (lambda: DecurLoss()(torch.zeros(2, 3, 4)), r"shape \(2, 3, 4\)"),
        (lambda: DecurLoss()(torch.zeros(2, 2, 1, 4)), "at least 2 samples"),
    ],
)
def test_faults_are_named(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def train(loss: DecurLoss, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings (2, N, K) that a small encoder of each modality learns, what both modalities
    share (N, 6), and what each alone has (2, N, 6)."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(2, 12, 24, generator=generator) / 3
    torch.manual_seed(0)
    encoders = [nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 32)) for _ in range(2)]
    parameters = [p for encoder in encoders for p in encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)

    def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shared = torch.randn(count, 6, generator=generator)
        own = torch.randn(2, count, 6, generator=generator)
        both = torch.cat([shared.expand(2, -1, -1), own], dim=2)
        return torch.tanh(both @ mix), shared, own

    for _ in range(steps):
        x, _, _ = drawn(128)
        views = x[:, None] + 0.05 * torch.randn(2, 2, 128, 24, generator=generator)
        z = [encoder(one) for encoder, one in zip(encoders, views, strict=True)]
        optimizer.zero_grad()
        loss(torch.stack(z)).total.backward()
        optimizer.step()
    x, shared, own = drawn(2000)
    with torch.no_grad():
        z = [encoder(one) for encoder, one in zip(encoders, x, strict=True)]
        return torch.stack(z), shared, own


def r2(features: torch.Tensor, target: torch.Tensor) -> float:
    """Linear R^2 on the second half of the samples, fitted on the first."""
    ones = torch.ones(len(features), 1)
    x, half = torch.cat([features, ones], dim=1).double(), len(features) // 2
    fit = torch.linalg.lstsq(x[:half], target[:half].double()).solution
    residual = (target[half:] - x[half:] @ fit).square().sum()
    return 1 - (residual / (target[half:] - target[half:].mean(0)).square().sum()).item()


def test_it_tells_common_from_unique() -> None:
    z, shared, own = train(DecurLoss(0.5, 0.05, TermWeights(1.0, 1.0, 2.0, 2.0)), 300)
    assert r2(z[0, :, :16], shared) > 0.8 and r2(z[0, :, 16:], shared) < 0.1
    assert r2(z[0, :, :16], own[0]) < 0.1 and r2(z[0, :, 16:], own[0]) > 0.5
    for block in (z[0, :, :16], z[0, :, 16:]):
        assert block.std(0).min() > 0.01
        assert rankme(block.numpy()) > 8
    # Between the modalities alone, nothing of what one has is kept.
    z, _, own = train(DecurLoss(1.0, 0.05, TermWeights(0.0, 0.0, 1.0, 0.0)), 450)
    assert r2(z[0], own[0]) < 0.1
