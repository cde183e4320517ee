"""Two sweeps learnt by heart; what shows a collapse."""

from __future__ import annotations

import math

import pytest
import torch

from lemumo_core.data.samples import collate, map_tensors, sample
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.losses.contrastive import info_nce
from lemumo_core.methods.cmcr.codebook import Codebook, CodebookConfig
from lemumo_core.methods.cmcr.monitors import monitor
from lemumo_core.methods.cmcr.presets import TermWeights
from lemumo_core.methods.cmcr.views import DrawConfig
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.small_cmcr import MODEL, built, draw


@pytest.fixture(scope="module")
def learnt():
    street = SyntheticStreet(frames=2, frames_per_drive=1, height=MODEL.height, width=MODEL.width)
    spec, classes = MODEL.input_spec, Taxonomy()
    sweeps = collate([sample(frame, spec, classes, points=True) for frame in street])
    # Unlike standardised ones, cells of the map as they are need no long tail of steps.
    method = built(
        terms=TermWeights(orthogonality=0.01, matching=0.1, occupancy=0.3),
        draw=DrawConfig(matches=40, queries=30, neighbors=4, mask_images=0.0, rotate=False),
        network=SparseConfig(width=0.25, voxels=VoxelConfig(size_m=0.4, features="height")),
        codebook=CodebookConfig(400),
        width=64,
        standardize=False,
    ).train()
    views = method.views(sweeps, draw, 0, 1)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=5e-3)
    for step in range(40):
        outcome = method(views, step)
        optimizer.zero_grad()
        outcome.loss.total.backward()
        optimizer.step()
        method.after_step(step, 40)
    return method, outcome


def test_two_sweeps_are_learnt(learnt) -> None:
    _, outcome = learnt
    terms = outcome.loss.terms
    n = int(outcome.monitored["valid"].sum())
    assert n == 80 and terms["contrast"] < 0.1 * math.log(n)
    points, pixels, valid = (outcome.monitored[k] for k in ("points", "pixels", "valid"))
    assert terms["reconstruction"] < (outcome.view.image / 255).var()
    shuffled = info_nce(points, pixels.roll(1, 0), valid, 1.0)
    assert shuffled > 0.7 * math.log(n)  # of other pairs nothing is known


def test_nothing_collapses(learnt) -> None:
    method, outcome = learnt
    scalars = method.monitors(outcome, 0)
    assert scalars["pairs"] == 80 and scalars["code_perplexity"] > 50  # of 400 codes
    assert min(scalars["points_std"], scalars["pixels_std"]) > 0.5 / 64**0.5
    assert scalars["cosine"] > 0.5 > scalars["cosine_shuffled"]
    assert min(scalars["shared_rank"], scalars["specific_rank"]) > 4
    same = outcome.monitored["points"][:1].expand(80, -1)
    collapsed = method.monitors(
        outcome._replace(monitored={**outcome.monitored, "points": same}), 0
    )
    assert collapsed["points_std"] < 1e-3 and collapsed["code_perplexity"] == pytest.approx(1)


def test_how_far_specific_features_are_apart_is_that_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    shared, noise = (torch.randn(300, 6, generator=generator) for _ in range(2))
    book, pair = (
        Codebook(CodebookConfig(5), 6),
        (shared[:9], noise[:9], torch.ones(9, dtype=torch.bool)),
    )
    mixed = shared @ torch.randn(6, 6, generator=generator) + noise + 3
    given = torch.cat([shared, torch.ones(300, 1)], 1)
    for specific in (mixed, noise, 2 * shared):
        left = specific - given @ torch.linalg.lstsq(given, specific).solution
        expected = 1 - left.square().sum() / (specific - specific.mean(0)).square().sum()
        scalars = monitor(book, shared, specific, *pair)
        assert scalars["specific_r2"] == pytest.approx(float(expected), abs=1e-4)
    assert scalars["shared_rank"] == pytest.approx(6, abs=0.2)
    flat = monitor(book, shared, shared[:, :1].repeat(1, 6), *pair)
    assert flat["specific_rank"] == pytest.approx(1, abs=1e-3)


def test_samples_without_points_or_image_give_a_finite_step(sweeps) -> None:
    nothing = map_tensors(sweeps, torch.clone)
    nothing.points[:] = torch.inf
    nothing.present[0, 0] = 0.0
    method = built()
    outcome = method(method.views(nothing, draw, 0, 1), 0)
    outcome.loss.total.backward()
    assert outcome.loss.total.isfinite() and outcome.loss.terms["contrast"] == 0
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    assert method.monitors(outcome, 0) == {"pairs": 0.0}
