"""Losses of dense depth and segmentation against loops over cells, and their minima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lemumo_core.losses.depth import DepthLoss, PaperDepthLoss, pool_depth
from lemumo_core.losses.segmentation import SegmentationLoss, class_counts

SHAPE, STRIDE = (6, 10), 4


def depths(seed: int = 0, batch: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    true = torch.rand(batch, SHAPE[0] * STRIDE, SHAPE[1] * STRIDE, generator=g) * 100
    true[torch.rand(true.shape, generator=g) < 0.9] = math.nan
    true[0, :8] = math.nan
    true[1, 8:12, :8] = 0.0
    return true


def cells(true: torch.Tensor):
    """(b, row, column) and the sorted valid depths of each cell that has any."""
    for b, i, j in np.ndindex(len(true), *SHAPE):
        block = true[b, i * STRIDE : (i + 1) * STRIDE, j * STRIDE : (j + 1) * STRIDE]
        valid = sorted(float(d) for d in block.flatten() if 0 < d <= 80)
        if valid:
            yield (b, i, j), valid


def median(valid: list[float]) -> float:
    near, far = valid[(len(valid) - 1) // 2], valid[len(valid) // 2]
    return (near + far) / 2 if far < 1.25 * near else near


@pytest.mark.parametrize(("how", "reduce"), [("median", median), ("mean", np.mean)])
def test_pooled_depth_is_a_loop_over_cells(how, reduce) -> None:
    true = depths()
    got = pool_depth(true, SHAPE, how)
    expected = {at: reduce(valid) for at, valid in cells(true)}
    assert 50 < len(expected) < got.numel()
    for at in np.ndindex(got.shape):
        assert float(got[at]) == pytest.approx(expected.get(at, math.nan), nan_ok=True)


def test_median_is_unbiased_on_slanted_ground_and_clean_at_edges() -> None:
    """The reasons for the median, in numbers: a plane 1.6 m below the camera, and a pole."""
    rows = torch.arange(256.0).view(1, 256, 1).expand(1, 256, 8)
    ground = 500 * 1.6 / (rows - 119.5).clamp(min=10.0)
    center = 500 * 1.6 / (rows - 119.5)[:, 1::4, ::4].add(0.5)  # at the cells' middle
    far = slice(35, 40)  # 20 to 40 m away
    bias = (pool_depth(ground, (64, 2)) - center)[:, far]
    nearest = (-functional.max_pool2d(-ground, 4) - center)[:, far]
    assert nearest.mean() < -1.0 and bias.abs().max() < 0.05
    edge = torch.full((1, 4, 4), 40.0)
    edge[..., :2] = 10.0
    assert pool_depth(edge, (1, 1)).item() == 10.0
    assert pool_depth(edge, (1, 1), "mean").item() == 25.0


def test_deploy_loss_is_a_loop_and_its_gradients_stay_apart() -> None:
    true = depths(1)
    g = torch.Generator().manual_seed(2)
    said = (torch.rand(3, *SHAPE, generator=g) * 60).requires_grad_()
    confidence = torch.rand(3, *SHAPE, generator=g).requires_grad_()
    loss = DepthLoss()(said, confidence, true)
    errors, surprises = [], []
    for at, valid in cells(true):
        t, p, c = median(valid), said[at].item(), confidence[at].item()
        errors.append(abs(math.log1p(p) - math.log1p(t)))
        surprises.append(-math.log(c if max(p / t, t / p) < 1.25 else 1 - c))
    assert loss.terms["depth"].item() == pytest.approx(np.mean(errors), rel=1e-5)
    assert loss.terms["confidence"].item() == pytest.approx(np.mean(surprises), rel=1e-5)
    loss.total.backward()
    has_truth = ~pool_depth(true, SHAPE).isnan()
    assert torch.equal(said.grad != 0, has_truth) and torch.equal(confidence.grad != 0, has_truth)


def test_confidence_is_least_costly_at_the_share_of_good_cells() -> None:
    true = torch.full((1, 40, 40), 10.0)
    said = torch.full((1, 10, 10), 10.0)
    said[:, :3] = 20.0  # 30 % are wrong
    costs = {
        c: DepthLoss()(said, torch.full_like(said, c), true).terms["confidence"].item()
        for c in (0.5, 0.6, 0.7, 0.8, 0.9)
    }
    assert min(costs, key=lambda c: costs[c]) == 0.7


def test_paper_loss_is_a_loop_over_views() -> None:
    true = depths(3)
    true[2] = math.nan  # a view without returns counts as 0
    said = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(4)) * 60
    views = [[], [], []]
    for (b, i, j), valid in cells(true):
        views[b].append((said[b, i, j].item() - np.mean(valid)) ** 2)
    expected = np.mean([np.mean(v) if v else 0.0 for v in views])
    loss = PaperDepthLoss()(said, torch.ones_like(said), true)
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(loss.terms) == {"depth"}


@pytest.mark.parametrize("loss", [PaperDepthLoss(), DepthLoss()])
def test_depth_without_truth_and_perfect_depth(loss: DepthLoss | PaperDepthLoss) -> None:
    said = torch.full((2, *SHAPE), 10.0, requires_grad=True)
    confidence = torch.full_like(said, 1.0)
    nothing = loss(said, confidence, torch.full_like(depths()[:2], math.nan))
    nothing.total.backward()
    assert nothing.total.item() == 0.0 and not said.grad.any()
    assert loss(said, confidence, torch.full_like(depths()[:2], 10.0)).total.item() == 0.0


def labels(seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    shape = 2, SHAPE[0] * STRIDE, SHAPE[1] * STRIDE
    ids = (torch.rand(shape, generator=g) ** 3 * 3.999).to(torch.uint8)  # rare: 3; never: 4
    ids[torch.rand(shape, generator=g) < 0.4] = 255
    return ids


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_segmentation_is_torchs_cross_entropy_of_every_pixel(balance: float) -> None:
    ids = labels()
    logits = torch.randn(2, 5, *SHAPE, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(ids[ids != 255].long(), minlength=5).double()
    present = counts[counts > 0]
    weights = (present.sort().values[(len(present) - 1) // 2] / counts.clamp(min=1)) ** balance
    assert counts[4] == 0 and counts[3] > 0
    pixels = logits.repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)
    expected = functional.cross_entropy(
        pixels, ids.long(), weights.clamp(0.1, 10).float(), ignore_index=255
    )
    loss = SegmentationLoss(balance)(logits, ids)
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_are_clipped() -> None:
    loss = SegmentationLoss(1.0)
    weights = loss._weights(torch.tensor([1e6, 1e3, 1.0, 0.0]))
    assert weights.tolist() == pytest.approx([0.1, 1.0, 10.0, 0.0])


def test_perfect_and_unlabelled_segmentation() -> None:
    ids = labels().repeat_interleave(STRIDE, 1)[:, ::STRIDE]
    ids = ids[:, ::STRIDE, ::STRIDE].repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
    small = ids[:, ::STRIDE, ::STRIDE].long()
    logits = 40.0 * functional.one_hot(small.clamp(max=4), 5).permute(0, 3, 1, 2).float()
    assert SegmentationLoss()(logits, ids).total.item() == pytest.approx(0.0, abs=1e-6)
    logits.requires_grad_()
    nothing = SegmentationLoss()(logits, torch.full_like(ids, 255))
    nothing.total.backward()
    assert nothing.total.item() == 0.0 and not logits.grad.any()


def test_saturated_float16_logits_give_finite_gradients() -> None:
    logits = torch.full((2, 5, *SHAPE), -65504.0, dtype=torch.float16)
    logits[:, 2] = 65504.0
    logits.requires_grad_()
    loss = SegmentationLoss()(logits, labels())
    loss.total.backward()
    assert torch.isfinite(loss.total) and torch.isfinite(logits.grad).all()


def test_class_counts_add_up() -> None:
    ids = labels()
    counts = class_counts(ids, (5, *SHAPE))
    assert counts.sum() == (ids != 255).sum()
    assert counts[1, 0, 2, 3] == (ids[1, 8:12, 12:16] == 0).sum()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        pool_depth(torch.zeros(1, 10, 12), (4, 4))
    with pytest.raises(ValueError, match="divide"):
        class_counts(torch.zeros(1, 10, 12, dtype=torch.uint8), (2, 4, 4))
