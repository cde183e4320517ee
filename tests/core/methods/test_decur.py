"""DeCUR as a method: what each modality sees, where gradients go, what a run shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.data.photometric import Photometric
from lemumo_core.losses.decur import SUM_WEIGHTS
from lemumo_core.methods.decur import report, slices
from lemumo_core.methods.decur.method import DeCUR, DecurMethod
from lemumo_core.methods.decur.projector import Projector
from lemumo_core.methods.decur.views import CropConfig
from lemumo_core.model import conv_towers
from lemumo_core.model.config import BACKBONES, ModelConfig
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.model.resnet import ResNetConfig
from tests.helpers.small_run import small_batch, small_config

MODEL = ModelConfig(height=48, width=64)
CROPS = CropConfig((32, 32))


def build(**changes) -> DecurMethod:
    options = DeCUR(**{"dimensions": 16, "crops": CROPS, **changes})
    torch.manual_seed(0)
    return options.resolve(MODEL, MODEL.input_spec).build(MODEL, MODEL.input_spec)


@pytest.fixture(scope="module")
def method() -> DecurMethod:
    return build()


@pytest.fixture(scope="module")
def batch():
    return small_batch(small_config(batch=4))


def draw(purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(sum(map(ord, purpose)))


def test_presets() -> None:
    def resolved(preset: str, **changes) -> DeCUR:
        return DeCUR(preset=preset, **changes).resolve(MODEL, MODEL.input_spec)

    repo, figure = resolved("repo"), resolved("figure")
    assert (repo.dimensions, repo.share_projector, repo.repo_grad_scale) == (8192, True, True)
    assert repo.loss.weights.image == 1 / 3 and repo.loss.weights.unique == 1 / 6
    assert not figure.share_projector and figure.loss.weights == SUM_WEIGHTS
    assert resolved("repo", dimensions=64, share_projector=False).share_projector is False
    assert repo.resolve(MODEL, MODEL.input_spec) == repo


def test_projectors_are_shared_where_asked_for(method) -> None:
    assert len(method.projectors) == 2
    assert len(build(share_projector=True).projectors) == 1


def test_crops_are_each_modalitys_own_unless_shared(method, batch) -> None:
    views = method.views(batch, draw, 0, 1)
    tables = [view.crops.table for view in (*views.image, *views.companion)]
    assert len({tuple(table.flatten().tolist()) for table in tables}) == 4
    shared = build(crops=replace(CROPS, shared_crop=True)).views(batch, draw, 0, 1)
    for image, companion in zip(shared.image, shared.companion, strict=True):
        assert torch.equal(image.crops.table, companion.crops.table)


def test_changes_of_appearance_neither_wrap_around_nor_touch_depth(batch) -> None:
    """White stays white, however it is brightened; the reference's uint8 begins again at 0."""
    bright = Photometric(0.9, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    white = replace(batch, image=torch.full_like(batch.image, 255))
    views = [
        build(crops=replace(CROPS, photometric=one)).views(white, draw, 0, 1)
        for one in (bright, replace(bright, brightness=0.0))
    ]
    low = 0.1 * 255 - 1
    changed = torch.cat([view.image for view in views[0].image]).float()
    assert changed.min() >= low and len(changed.unique()) > 1
    assert (torch.cat([view.image for view in views[1].image]) == 255).all()
    for one, other in zip(*(pair.companion for pair in views), strict=True):
        assert torch.equal(one.companion, other.companion)


def test_each_modality_stands_alone(method, batch) -> None:
    both = method.features(batch)
    present = torch.tensor([1.0, 0.0]).expand(len(batch), 2)
    alone = method.features(replace(batch, present=present))
    assert torch.equal(both["image"].tokens, alone["image"].tokens)
    assert torch.equal(both["image"].pooled, alone["image"].pooled)
    assert alone["image"].valid.all() and not alone["companion"].valid.any()
    assert both["fused"].tokens.shape[-1] == method.token_dim == 2 * MODEL.dim
    parts = [both[name].tokens for name in ("image", "companion")]
    assert torch.equal(both["fused"].tokens, torch.cat(parts, dim=-1))


def test_every_part_of_both_modalities_learns(monkeypatch, batch) -> None:
    """Also the companion's deformable attention, which the reference leaves out."""
    small = ResNetConfig((1, 1, 1, 1), True, 4, True, 16, 32)
    monkeypatch.setitem(conv_towers.RESNETS, "resnet50_rda", small)
    monkeypatch.setitem(BACKBONES, "resnet50_rda", small.dims)
    method = build(backbone="resnet50_rda").train()
    method(method.views(batch, draw, 0, 1), 0).loss.total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        if "companion.backbone.attention.4.proj_out" in name:
            assert parameter.grad.abs().max() > 0


def test_a_run_starts_a_perception_model_of_two_towers(method) -> None:
    model, weights = method.exported()
    assert model.variant == "late"
    perception = PerceptionModel(model)
    missing, unexpected = perception.load_state_dict(weights, strict=False)
    assert not unexpected and not any(name.startswith("encoder.") for name in missing)


def test_biases_have_a_rate_of_their_own(method) -> None:
    weights, rest = build(bias_rate=0.1).parameter_groups()
    assert (weights.rate, rest.rate) == (1.0, 0.1)
    assert all(p.ndim <= 1 for _, p in rest.parameters)
    names = [name for group in (weights, rest) for name, _ in group.parameters]
    assert sorted(names) == sorted(name for name, _ in method.named_parameters())


def test_monitors(method, batch) -> None:
    method.train()
    scalars = method.monitors(method(method.views(batch, draw, 0, 1), 0), 0)
    assert {"rankme", "rankme_image", "agreement_companion", "collapsed"} <= scalars.keys()
    same = torch.randn(1, 1, 50, 16, generator=torch.Generator().manual_seed(0)).expand(
        2, 2, -1, -1
    )
    found = method._monitors.observe(0, torch.ones(50, 2), same[0], same)
    for name in ("image", "companion", "common", "unique"):
        assert found[f"agreement_{name}"] == pytest.approx(1.0, abs=1e-3)


def test_the_page_tells_common_from_unique(method, batch) -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(200, 12)), rng.normal(size=(2, 200, 4))
    z = np.concatenate(
        [np.stack([shared @ rng.normal(size=(12, 12)) for _ in (0, 1)]), own], axis=2
    )
    a, b = (report.standardized(one) for one in z)
    common, shuffled = report.linear_r2(a[:, :12], b[:, :12])
    unique, _ = report.linear_r2(a[:, 12:], b[:, 12:])
    assert common > 0.9 and shuffled < 0.1 and unique < 0.1
    drawn = report.picture(report.correlation(a, a), 12)
    assert drawn.shape == (512, 512, 3) and (drawn[384] == 0).all()
    page = "".join(method.report([batch] * 4))
    assert "What slices tell of the frame" in page and "companion, unique" in page
    assert page.count("<img") == 3 and page.count("<svg") == 2 and "shuffled pairs" in page
    assert method.report([batch]) == []


def test_slices_are_scored_by_what_they_hold() -> None:
    """A truth that one modality's unique dimensions hold is found there alone."""
    rng = np.random.default_rng(0)
    z, shared = rng.normal(size=(2, 120, 8)), rng.normal(size=(120, 4))
    z[:, :, :4] = shared
    truth = np.stack([z[0, :, 5], np.full(120, 0.3), np.full(120, np.nan)], axis=1)
    found = slices.scores(slices.slices_of(z, 4), truth)
    assert found["image, unique"][0] > 0.99 and found["both"][0] > 0.9
    for name in ("image, common", "companion", "companion, unique", "companion, common"):
        assert found[name][0] < 0.2, name
    assert max(shuffled for _, shuffled in found.values()) < 0.2
    assert slices.scores(slices.slices_of(z, 4), truth[:, 1:]) == {}


def test_frames_are_described_by_depth_and_classes(batch) -> None:
    found = slices.frame_truth(batch, 3)
    labels = batch.labels
    known = labels.depth_m[0] > 0
    assert found.shape == (len(batch), 4)
    assert found[0, 0] == pytest.approx(labels.depth_m[0][known].log().mean().item(), rel=1e-4)
    share = (labels.label_map[0] == 1).sum() / (labels.label_map[0] != 255).sum()
    assert found[0, 2] == pytest.approx(share.item(), rel=1e-5)
    bare = slices.frame_truth(replace(batch, labels=None), 3)
    returns_m = batch.returns[0, :, 2]
    expected = returns_m[returns_m.isfinite()].log().mean().item()
    assert bare[0, 0] == pytest.approx(expected, rel=1e-4) and np.isnan(bare[:, 1:]).all()


def test_views_of_a_modality_have_statistics_of_their_own() -> None:
    """Also where one projector takes all groups at once."""
    torch.manual_seed(0)
    projector, groups = Projector(6, 10).train(), torch.randn(4, 8, 6)
    groups[1] += 3
    together = projector(groups)
    again = Projector(6, 10).train()
    again.load_state_dict(projector.state_dict())
    for group, found in zip(groups, together, strict=True):
        torch.testing.assert_close(again(group[None])[0], found)


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="dimensions is 1"):
        DeCUR(dimensions=1)
    with pytest.raises(ValueError, match="bias_rate is 0"):
        DeCUR(bias_rate=0.0)
    with pytest.raises(ValueError, match=r"global_size is \(30, 32\)"):
        DeCUR(crops=CropConfig((30, 32)))
