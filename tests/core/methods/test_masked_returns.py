"""Masked LiDAR modelling, against loops written from the definition."""

from __future__ import annotations

import math

import numpy as np
import torch

from lemumo_core.data.crops import whole_canvas
from lemumo_core.data.views import View
from lemumo_core.methods.lemumo.masked_returns import MaskedReturns

HEIGHT, WIDTH = 32, 48
CELLS = HEIGHT // 4, WIDTH // 4


def view_of(depth_m: torch.Tensor) -> View:
    """A view with these returns, NaN where there are none."""
    rows, known = len(depth_m), ~depth_m.isnan()
    value = torch.where(known, (depth_m / 80).clamp(max=1), 0.0)
    return View(
        image=torch.zeros(rows, HEIGHT, WIDTH, 3, dtype=torch.uint8),
        companion=torch.stack([value, known.float()], -1),
        intrinsics=torch.eye(3).repeat(rows, 1, 1),
        present=torch.ones(rows, 2),
        crops=whole_canvas((HEIGHT, WIDTH), rows),
        labels=None,
    )


def test_truth_is_the_middle_of_each_cells_returns_within_reach() -> None:
    generator = torch.Generator().manual_seed(1)
    depth_m = torch.rand(2, HEIGHT, WIDTH, generator=generator) * 99 + 1
    depth_m[torch.rand(depth_m.shape, generator=generator) < 0.9] = math.nan
    depth = torch.rand(2, *CELLS, generator=generator) * 60
    confidence = torch.rand(2, *CELLS, generator=generator)
    errors, entropies = [], []
    for row, y, x in np.ndindex(2, *CELLS):
        cell = depth_m[row, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].flatten()
        cell = np.sort(cell[cell < 80].numpy())
        if len(cell):
            near, far = cell[(len(cell) - 1) // 2], cell[len(cell) // 2]
            truth = (near + far) / 2 if far < 1.25 * near else near
            predicted, p = depth[row, y, x].item(), confidence[row, y, x].item()
            errors.append(abs(math.log1p(predicted) - math.log1p(truth)))
            right = max(predicted / truth, truth / predicted) < 1.25
            entropies.append(-math.log(p if right else 1 - p))
    total, terms = MaskedReturns(weight=3.0)(depth, confidence, view_of(depth_m))
    assert 50 < len(errors) < depth.numel()
    torch.testing.assert_close(terms["returns"].item(), float(np.mean(errors)))
    torch.testing.assert_close(terms["returns_confidence"].item(), float(np.mean(entropies)))
    torch.testing.assert_close(total, 3.0 * sum(terms.values()))


def test_without_returns_nothing_is_learnt() -> None:
    depth = torch.full((2, *CELLS), 9.0, requires_grad=True)
    empty = view_of(torch.full((2, HEIGHT, WIDTH), math.nan))
    total, _ = MaskedReturns(weight=3.0)(depth, torch.full((2, *CELLS), 0.5), empty)
    total.backward()
    assert total == 0 and depth.grad is not None and not depth.grad.any()


def test_masks_whole_patches_and_nothing_else() -> None:
    view = view_of(torch.full((100, HEIGHT, WIDTH), 10.0))
    torch.manual_seed(0)
    seen = MaskedReturns(weight=1.0, ratio=0.3).mask(view, views=2)
    patches = seen.companion.unflatten(2, (-1, 16)).unflatten(1, (-1, 16)).transpose(2, 3)
    patches = patches.flatten(3)  # (rows, patches down, patches across, values)
    masked = (patches == 0).all(-1)
    kept = (patches == view.companion[0, 0, 0].repeat(256)).all(-1)
    assert (masked ^ kept).all()
    assert abs(masked.float().mean().item() - 0.3) < 0.06
    assert seen.image is view.image and seen.present is view.present
    torch.manual_seed(0)
    again = MaskedReturns(weight=1.0, ratio=0.3).mask(view, views=2)
    assert torch.equal(again.companion, seen.companion)
