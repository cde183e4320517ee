"""VISReg: against a loop from its definition."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from lemumo_core.losses.sigreg import directions
from lemumo_core.losses.visreg import EPSILON, visreg


def by_definition(views: np.ndarray, step: int) -> float:
    """Views (V, B, d), slice by slice."""
    slices = directions(views.shape[-1], step).numpy()
    count = views.shape[1]
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    quantiles /= np.sqrt((quantiles**2).mean())
    total = 0.0
    for x in views:
        mean, std = x.mean(0), np.sqrt(x.var(0, ddof=1) + EPSILON)
        z = (x - mean) / std
        shape = [((np.sort(z @ a) - quantiles) ** 2).mean() for a in slices.T]
        total += ((1 - std) ** 2).mean() + (mean**2).mean() + np.mean(shape)
    return total / len(views)


def test_it_is_its_definition() -> None:
    x = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([0.3, 1.0, 2.0]).view(3, 1, 1) + 0.5
    assert visreg(x, 4).item() == pytest.approx(by_definition(x.numpy(), 4), rel=1e-9)


def test_normal_samples_are_near_its_least_and_a_collapse_is_not() -> None:
    normal = torch.randn(2, 512, 16, generator=torch.Generator().manual_seed(0))
    assert visreg(normal, 0) < 0.05
    assert visreg(normal * 1e-3, 0) > 0.9
    line = normal[..., :1].expand_as(normal)
    assert visreg(line, 0) > 10 * visreg(normal, 0)


def test_its_gradient_is_finite_where_all_are_equal() -> None:
    x = torch.ones(1, 8, 4, requires_grad=True)
    visreg(x, 0).backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
