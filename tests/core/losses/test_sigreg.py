"""SIGReg against known values and against a loop written from its definition."""

from __future__ import annotations

import math

import pytest
import torch

from lemumo_core.losses.sigreg import SLICES, directions, sigreg


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_definition(projections: torch.Tensor, step: int) -> torch.Tensor:
    """View by view, slice by slice, knot by knot: n * trapezoid of phi |ecf - phi|^2."""
    views, samples, _ = projections.shape
    slices = directions(projections.shape[2], step)
    total = torch.zeros((), dtype=torch.float64)
    for v in range(views):
        for k in range(SLICES):
            x = projections[v] @ slices[:, k]
            for j in range(17):
                t = 3.0 * j / 16
                phi = math.exp(-t * t / 2)
                weight = 2 * (3.0 / 16) * (0.5 if j in (0, 16) else 1.0)
                real, imaginary = (t * x).cos().mean(), (t * x).sin().mean()
                total = total + weight * phi * ((real - phi) ** 2 + imaginary**2)
    return samples * total / (views * SLICES)


@pytest.mark.parametrize("samples", [16, 64, 256])
def test_expectation_under_the_normal_distribution(samples) -> None:
    draws = (normal(6, samples, 128, seed=s, dtype=torch.float32) for s in range(2560 // samples))
    values = [sigreg(x, s) for s, x in enumerate(draws)]
    assert torch.stack(values).mean().item() == pytest.approx(1.0525, abs=0.02)


@pytest.mark.parametrize("samples", [4, 64])
def test_collapse_to_the_origin(samples) -> None:
    value = sigreg(torch.zeros(2, samples, 8), 0).item()
    assert value == pytest.approx(0.40205 * samples, rel=2e-5)


def test_twice_too_wide() -> None:
    values = [sigreg(2 * normal(6, 64, 128, seed=s), s) for s in range(10)]
    assert torch.stack(values).mean().item() == pytest.approx(16.7, abs=0.2)


def test_value_and_gradient_are_those_of_the_definition() -> None:
    first, second = ((1.5 * normal(2, 5, 7) + 0.3).requires_grad_() for _ in range(2))
    ours, expected = sigreg(first, 3), by_definition(second, 3)
    torch.testing.assert_close(ours, expected, atol=0, rtol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(ours, first), torch.autograd.grad(expected, second), atol=1e-10, rtol=0
    )


def test_slices_follow_from_the_step_alone() -> None:
    state = torch.get_rng_state()
    torch.testing.assert_close(directions(128, 7).norm(dim=0), torch.ones(SLICES).double())
    assert torch.equal(directions(128, 7), directions(128, 7))
    assert not torch.equal(directions(128, 7), directions(128, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_is_left_out() -> None:
    """Under autocast to bfloat16 the loss is that of float32 to its last bit."""
    x = normal(2, 16, 32, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = sigreg(x, 0)
        assert (x[0] @ x[0].T).dtype == torch.bfloat16
    assert inside.dtype == torch.float32 and torch.equal(inside, sigreg(x, 0))
    assert sigreg(x.bfloat16(), 0).dtype == torch.float32
