"""LeJEPA and VICReg against sums written from their formulas."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.sigreg import sigreg
from lemumo_core.losses.vicreg import VicReg

V, B, D = 6, 5, 4


def projections(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(V, B, D, generator=generator, dtype=torch.float64).requires_grad_()


def distance(p: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    parts = [(p[v, b, i] - center[b, i]) ** 2 for v in range(V) for b in range(B) for i in range(D)]
    return sum(parts) / len(parts)


def same(ours: torch.Tensor, expected: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Equal in value and in the gradient of every input."""
    torch.testing.assert_close(ours, expected, atol=0, rtol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(expected, inputs), atol=1e-10, rtol=0
    )


def test_lejepa() -> None:
    p = projections(0)
    loss = LeJepa(weight=0.1)(p, 4)
    same(loss.total, 0.1 * sigreg(p, 4) + 0.9 * distance(p, (p[0] + p[1]) / 2), p)
    assert set(loss.terms) == {"sigreg", "invariance"}
    assert not any(term.requires_grad for term in loss.terms.values())


def test_the_gradient_flows_through_the_center() -> None:
    p = projections(0)
    detached = distance(p, ((p[0] + p[1]) / 2).detach())
    ours = torch.autograd.grad(LeJepa(weight=0.0)(p, 0).total, p)[0]
    assert not torch.allclose(ours, torch.autograd.grad(detached, p)[0])


def test_auxiliary_unimodal_passes_of_the_reference() -> None:
    p, image, companion = (projections(seed) for seed in range(3))
    loss = LeJepa(aux_unimodal=True)(p, 4, (image, companion))
    regular = sigreg(p, 4) + sigreg(image, 4) + sigreg(companion, 4)
    center = (p[0] + p[1]) / 2
    expected = 0.1 * sigreg(p, 4) + 0.9 * distance(p, center) + 0.1 / 3 * regular
    same(loss.total, expected, p, image, companion)
    assert set(loss.terms) == {"sigreg", "invariance", "sigreg_image", "sigreg_companion"}


def test_vicreg() -> None:
    p = projections(0)
    center = sum(p) / V
    variance, covariance = 0.0, 0.0
    for view in p:
        x = view - view.mean(0)
        for i in range(D):
            std = ((x[:, i] ** 2).sum() / (B - 1) + 1e-4) ** 0.5
            variance += torch.clamp(1 - std, min=0) / (V * D)
            for j in range(D):
                if i != j:
                    covariance += ((x[:, i] * x[:, j]).sum() / (B - 1)) ** 2 / (V * D)
    expected = 25 * distance(p, center) + 25 * variance + covariance
    loss = VicReg()(p, 0)
    same(loss.total, expected, p)
    assert set(loss.terms) == {"invariance", "variance", "covariance"}


def test_vicreg_has_a_gradient_at_the_collapse() -> None:
    p = torch.zeros(2, 4, 3, requires_grad=True)
    loss = VicReg()(p, 0).total
    assert loss.item() == pytest.approx(25 * 0.99)
    assert torch.isfinite(torch.autograd.grad(loss, p)[0]).all()


@pytest.mark.parametrize("objective", [LeJepa(), VicReg()])
def test_bfloat16_projections_are_summed_in_float32(objective) -> None:
    p = projections(0).detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(p, 0)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, objective(p.float(), 0).total, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: LeJepa(weight=1.5), "weight of SIGReg is 1.5"),
        (lambda p: LeJepa(global_views=0), "global_views is 0"),
        (lambda p: LeJepa()(p[0], 0), r"shape \(5, 4\); expected \(views, batch, dimensions\)"),
        (lambda p: LeJepa()(p[:1], 0), "2 global views first"),
        (lambda p: LeJepa(aux_unimodal=True)(p, 0), "needs two, image and companion"),
        (lambda p: LeJepa()(p, 0, (p, p)), "2 unimodal passes given.*needs none"),
        (lambda p: VicReg()(p[:, :1], 0), "at least 2 samples"),
    ],
)
def test_bad_calls_are_named(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call(projections(0))
