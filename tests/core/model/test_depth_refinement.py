"""Depth chosen among hypotheses: exact on planes, near to interpolation, never free of returns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import LinearNDInterpolator

from lemumo_core.losses.depth_selection import DepthChoice, DepthSelectionLoss
from lemumo_core.model.heads.depth_refinement import (
    COARSE_DEG,
    COARSE_SOFT_DEG,
    FREE_DEG,
    DepthRefinement,
    soft_median,
)
from lemumo_core.model.heads.pixel_hypotheses import hypotheses_at, returns_around
from lemumo_core.preprocess import Inputs

H, W = 48, 64
NEAREST, LINEAR, UP, DOWN, CLOSEST, FARTHEST, MEAN, COARSE = range(8)


def beams(depth_of, rows=(6.3, 17.8, 30.1, 41.6), jitter: float = 0.4) -> dict[str, torch.Tensor]:
    """Returns of a few beams, slightly bent, one a column, each where the beam really is."""
    depth, valid, u, v = (torch.zeros(1, 1, H, W) for _ in range(4))
    rng = np.random.default_rng(0)
    for row in rows:
        for column in range(W):
            x, y = column + rng.uniform(-jitter, jitter), row + 1.2 * math.sin(column / 20)
            at = (0, 0, round(y), column)
            depth[at], valid[at], u[at], v[at] = depth_of(x, y), 1.0, x - column, y - round(y)
    return {"depth_m": depth, "valid": valid, "u": u, "v": v}


def hypotheses(returns, coarse_m=20.0, u=0.0, v=0.0) -> torch.Tensor:
    """Metres, (8, H, W)."""
    coarse = torch.full((1, 1, H, W), coarse_m)
    around = returns_around(**returns)
    return hypotheses_at(around, coarse, torch.tensor(u), torch.tensor(v))[0].exp()


def test_interpolation_is_exact_on_a_road() -> None:
    """Between two beams, and near it where a beam leaves the row of its pixel."""
    road = lambda x, y: 60.0 / (y + 10.0)  # noqa: E731
    rows = torch.arange(H).view(-1, 1).expand(H, W)
    for v in (0.0, 0.4):
        found = hypotheses(beams(road), v=v)[LINEAR, 9:40]
        error = (found / (60.0 / (rows + v + 10.0))[9:40] - 1.0).abs()
        assert error.quantile(0.9) < 1e-4 and error.max() < 0.04


def test_interpolation_is_near_that_over_triangles() -> None:
    """Of a wall and a road, against scipy, without the pixels that two surfaces share."""
    surface = lambda x, y: min(60.0 / (y + 2.0), 4.0 + 0.02 * x)  # noqa: E731
    returns = beams(surface)
    at = returns["valid"][0, 0] > 0
    v, u = np.nonzero(at.numpy())
    places = np.stack([u + returns["u"][0, 0][at].numpy(), v + returns["v"][0, 0][at].numpy()], 1)
    inverse = LinearNDInterpolator(places, 1.0 / returns["depth_m"][0, 0][at].numpy())
    rows, columns = np.mgrid[10:38, 2 : W - 2]
    expected = 1.0 / inverse(np.stack([columns, rows], axis=-1))
    found = hypotheses(returns)[LINEAR].numpy()[10:38, 2 : W - 2]
    error = np.abs(found / expected - 1.0)
    assert error.mean() < 0.01 and np.percentile(error, 95) < 0.04


def test_each_hypothesis_is_what_it_says() -> None:
    returns = beams(lambda x, y: 5.0 + 10.0 * (y > 24), rows=(10.0, 36.0), jitter=0.0)
    found = hypotheses(returns, coarse_m=33.0)
    middle = found[:, 20, 30]  # 9 rows below a beam at 5 m, 16 above one at 15 m
    assert middle[[NEAREST, UP, CLOSEST]].tolist() == pytest.approx([5.0] * 3)
    assert middle[[DOWN, FARTHEST]].tolist() == pytest.approx([15.0] * 2)
    assert 5.0 < middle[MEAN] < middle[LINEAR] < 15.0
    assert found[COARSE].unique().tolist() == pytest.approx([33.0])
    nothing = hypotheses({name: torch.zeros(1, 1, H, W) for name in returns}, coarse_m=33.0)
    torch.testing.assert_close(nothing, torch.full((8, H, W), 33.0))


def test_soft_median_is_the_weighted_median() -> None:
    generator = torch.Generator().manual_seed(0)
    values = 4 * torch.rand(1, 7, 20, 20, generator=generator)
    weights = (3 * torch.randn(1, 7, 20, 20, generator=generator)).softmax(1)
    ordered, order = values.sort(1)
    reached = weights.gather(1, order).cumsum(1) >= 0.5
    expected = ordered.gather(1, reached.float().argmax(1, keepdim=True))
    off = (soft_median(values, weights) - expected).abs()
    assert off.median() < 3e-3 and (off < 0.1).float().mean() > 0.93


def views(present: float = 1.0) -> tuple[Inputs, torch.Tensor, torch.Tensor]:
    returns = beams(lambda x, y: 60.0 / (y + 2.0))
    value = returns["depth_m"] / 80.0
    companion = torch.cat([value, *(returns[name] for name in ("valid", "u", "v"))], dim=1)
    inputs = Inputs(
        torch.zeros(1, H, W, 3, dtype=torch.uint8),
        companion.permute(0, 2, 3, 1),
        torch.tensor([[[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]]),
        torch.tensor([[1.0, present]]),
    )
    return inputs, torch.full((1, H // 4, W // 4), 7.0), torch.full((1, H // 4, W // 4), 0.3)


@pytest.fixture
def wild() -> DepthRefinement:
    """Refinement whose weights are large, so that it says anything."""
    torch.manual_seed(0)
    refinement = DepthRefinement(80.0).eval()
    for parameter in refinement.parameters():
        parameter.data = 2.0 * torch.randn_like(parameter)
    return refinement


def test_returns_bound_it_whatever_its_weights(wild) -> None:
    """Depth lies between the hypotheses, but for a residual that is 0 beside a return."""
    inputs, coarse_m, confidence = views()
    found = wild(inputs, coarse_m, confidence)
    _, valid, u, v = inputs.companion.unbind(-1)
    beside = (valid > 0) & (torch.hypot(u, v) < math.radians(FREE_DEG) * 60)
    assert beside.sum() > 5 and (found.residual[:, 0][beside] == 0.0).all()
    assert 0.1 < found.residual.abs().max() <= 0.25
    torch.testing.assert_close(found.log_weights.exp().sum(1), torch.ones(1, H, W))
    least, most = found.log_depths(torch.zeros(1), torch.zeros(1)).aminmax(dim=1)
    free_of = found.depth_m.log() - found.residual[:, 0]
    assert (free_of <= most + 1e-4).all() and (free_of >= least - 1e-4).all()


def test_it_copies_what_lies_beside_a_pixel_on_a_beam_whatever_its_weights(wild) -> None:
    """The wild weights choose anything elsewhere."""
    inputs, coarse_m, confidence = views()
    inputs.intrinsics[:, :2] *= 20  # a pixel is a twentieth of a degree
    found = wild(inputs, coarse_m, confidence)
    nearest = found.log_weights[:, 0].exp()
    _, valid, _, v = inputs.companion.unbind(-1)
    on_beam = (valid > 0) & (v.abs() < 0.4)
    assert on_beam.sum() > 50 and (nearest[on_beam] > 0.999).all()
    assert (nearest[:, 24] < 0.5).any()  # between two beams, a quarter of a degree from either


def test_the_coarse_depth_is_never_chosen_near_a_return() -> None:
    """However much the weights would like to; and always where no return is near."""
    inputs, coarse_m, confidence = views()
    inputs.intrinsics[:, :2] *= 4  # a pixel is a quarter of a degree
    refinement = DepthRefinement(80.0).eval()
    refinement.leave.bias.data.view(-1, 4)[COARSE] = 1e3
    found = refinement(inputs, coarse_m, confidence)
    share, around = found.log_weights[0, COARSE].exp(), found.around
    away_px = torch.where(around.known > 0, torch.hypot(around.u, around.v), math.inf)
    gap_deg = away_px[0].amin(0) / 240 * 57.3
    near, far = gap_deg < COARSE_DEG, gap_deg > COARSE_DEG + COARSE_SOFT_DEG
    assert near.sum() > 100 and share[near].max() < 1e-6
    assert far.sum() > 100 and share[far].min() > 0.999


def test_it_can_copy_where_returns_are_dense() -> None:
    """All weight on the nearest return gives every pixel its own."""
    depth_m = 5.0 + 40.0 * torch.rand(1, 1, H, W, generator=torch.Generator().manual_seed(0))
    place = torch.zeros_like(depth_m)
    found = hypotheses({"depth_m": depth_m, "valid": place + 1.0, "u": place, "v": place})
    torch.testing.assert_close(found[NEAREST], depth_m[0, 0], rtol=1e-4, atol=0)


def test_without_returns_it_leaves_the_depth_as_it_is(wild) -> None:
    inputs, coarse_m, confidence = views(present=0.0)
    found = wild(inputs, coarse_m, confidence)
    torch.testing.assert_close(found.depth_m, torch.full((1, H, W), 7.0))
    torch.testing.assert_close(found.confidence, torch.full((1, H, W), 0.3))


def test_half_weights_choose_alike() -> None:
    """Of fresh weights, moved a little; depths are never rounded to half precision."""
    torch.manual_seed(0)
    refinement = DepthRefinement(80.0).eval()
    torch.nn.init.normal_(refinement.leave.weight, std=0.02)
    inputs, coarse_m, confidence = views()
    expected = refinement(inputs, coarse_m, confidence)
    found = refinement.half()(inputs, coarse_m.half(), confidence.half())
    assert found.depth_m.dtype == torch.float32
    torch.testing.assert_close(found.depth_m, expected.depth_m, rtol=5e-3, atol=0)


def test_its_loss_has_the_median_for_optimum() -> None:
    """Of weights over three depths, seen with truths at each: weights at the middle one win."""
    log_depths = torch.tensor([5.0, 8.0, 20.0]).log().view(1, 3, 1, 1).expand(1, 3, 1, 5)
    true_m = torch.tensor([[[5.0, 8.0, 8.0, 20.0, math.nan]]])
    losses = []
    for chosen in range(3):
        log_weights = torch.full((1, 3, 1, 5), -20.0)
        log_weights[:, chosen] = 0.0
        zero = torch.zeros(1, 1, 1, 5)
        choice = DepthChoice(log_depths, log_weights, zero, torch.full((1, 1, 5), 0.5))
        losses.append(float(DepthSelectionLoss()(choice, true_m).total))
    assert losses.index(min(losses)) == 1 and all(map(math.isfinite, losses))
