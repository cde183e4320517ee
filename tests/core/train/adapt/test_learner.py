"""What a step of adaptation learns from, and in which view it is judged."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lemumo_core.data.samples import collate
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import save_weights, seeded_model
from lemumo_core.preprocess import Inputs
from lemumo_core.train.adapt import learner as module
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.adapt.frames import AdaptationFrames, sampler_of, split_end
from lemumo_core.train.adapt.learner import AdaptLearner
from lemumo_core.train.adapt.step import DepthStep
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.loader import samples_of
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.selection import Selection
from tests.core.train.finetune.test_learner import Small

WHOLE = ModelConfig(size="nano", height=96, width=128, refine_depth=True, encoder_reduction=2)
"""A package whose view is larger than what its encoder sees."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of that package."""
    folder = tmp_path_factory.mktemp("weights")
    save_weights(seeded_model(WHOLE, 1), folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(asdict(WHOLE)))
    return folder


@pytest.fixture(scope="module")
def learner(weights, tmp_path_factory) -> AdaptLearner:
    config = AdaptConfig.of_package(
        weights, batch=4, steps=2, val_frames=2, camera_only=0.5, blend=0.6
    )
    assert (config.model.height, config.model.width) == (48, 64)
    frames = AdaptationFrames(Small(), Selection([0, 1, 2], [3]), Small(), split_end(Small(), 1))
    out = tmp_path_factory.mktemp("run")
    run = Run(
        *(config, out, DistInfo(0, 1, torch.device("cpu"))),
        *(samples_of(config, frames), sampler_of(config, frames)),
    )
    learner = AdaptLearner(run)
    load_perception(learner.model, weights)
    learner.batch = collate([run.samples[i] for i in run.sampler[0]])
    return learner


def test_own_views_learn_measured_depth_and_without_lidar_the_teachers(
    learner, monkeypatch
) -> None:
    monkeypatch.setattr(module, "LEAST_CONFIDENCE", 0.0)  # random weights are never sure
    found, labelled_alone = [], []
    for step in range(6):
        whole, view = learner.whole_view(learner.batch, step), learner.view(learner.batch, step)
        masked_m, shown_m = whole.labels.masked[:, 0], whole.labels.depth_m
        own, labelled = slice(0, None, 2), slice(1, None, 2)
        assert (view.labels.boxes.known_3d == torch.tensor([False, True] * 2)).all()
        known = ~shown_m.isnan()
        assert torch.equal(view.labels.depth_m[known], shown_m[known])
        hidden = ~known & ~masked_m.isnan()
        assert torch.equal(view.labels.depth_m[hidden], masked_m[hidden])
        alone = view.present[own, 1] == 0
        labelled_alone += (view.present[labelled, 1] == 0).tolist()
        assert (view.present[own, 0] == 1).all() and not view.present[labelled].sum(1).eq(0).any()
        taught = ~view.labels.depth_m.isnan() & ~known & ~hidden
        assert not taught[labelled].any() and not taught[own][~alone].any()
        found += [*zip(alone.tolist(), taught[own].flatten(1).any(1).tolist(), strict=True)]
    assert {alone for alone, _ in found} == {False, True}
    # Of 12, at .5 and .15 of the rest; .15 alone would be 2.
    assert 4 <= sum(labelled_alone) <= 10
    assert any(taught for _, taught in found)


def test_the_loss_is_that_of_the_depth_head_in_the_whole_model(learner) -> None:
    view = learner.view(learner.batch, 0)
    total, terms = DepthStep(learner.model.eval())(view, False)
    raw = learner.predict(learner.model, view.inputs)
    expected = learner.model.losses(raw, view.labels, view.intrinsics)["depth"].total
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["depth"].item() == total.item()


def test_the_teacher_is_the_package_and_never_learns(learner, weights) -> None:
    before = {name: value.clone() for name, value in learner.teacher.state_dict().items()}
    values = learner.learn(learner.batch, 0).read()
    assert np.isfinite(list(values.values())).all() and values["gradient_norm"] > 0
    package = seeded_model(WHOLE, 1).state_dict()
    for name, value in learner.teacher.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(value, package[name])
    statistics = [name for name in package if "running" in name]
    own = learner.model.state_dict()
    assert statistics and all(torch.equal(own[name], package[name]) for name in statistics)
    moved = [n for n, p in learner.model.named_parameters() if not torch.equal(p, package[n])]
    assert {name.partition(".")[0] for name in moved} == {"depth"}


def test_where_boxes_drift_half_of_the_way_is_tried_too(learner, monkeypatch, tmp_path) -> None:
    """Without training: what each share finds is given, what is kept and returned is real."""
    before = {"fused": {"depth_mae_m": 2.0}, "labelled_fused": {"miou": 0.5}}
    monkeypatch.setattr(learner, "before", before)
    monkeypatch.setattr(learner, "best", -math.inf)
    monkeypatch.setattr(learner, "out", tmp_path)
    asked = []

    def measured(share: float) -> dict[str, Any]:
        asked.append(share)
        return {"fused": {"depth_mae_m": 2 - share}, "labelled_fused": {"miou": 0.5 - lost[share]}}

    monkeypatch.setattr(learner, "measure", measured)
    monkeypatch.setattr(module, "results_of", lambda metrics: metrics)
    for name in ("describe", "scalars"):
        monkeypatch.setattr(module, name, lambda metrics: {})
    lost = {0.6: 0.02, 0.3: 0.005}
    assert learner.validate(1)["score"] == pytest.approx(0.15) and asked == [0.6, 0.3]
    lost = {0.6: 0.02, 0.3: 0.015}
    assert learner.validate(2)["score"] < 0 and learner.best == pytest.approx(0.15)
    lost, asked = {0.6: 0.0}, []
    assert learner.validate(3) == {"score": pytest.approx(0.3), "blend": 0.6} and asked == [0.6]
    kept = json.loads((tmp_path / "best" / "state.json").read_text())["state"]
    assert (kept["step"], kept["metrics"]["fused"]) == (3, {"depth_mae_m": 1.4})


def test_what_is_evaluated_is_a_blend_in_the_packages_own_view(learner, monkeypatch) -> None:
    monkeypatch.setattr(learner, "validations", {})
    learner.measure(0.6)
    package, learnt = learner.teacher.state_dict(), learner.model.state_dict()
    for name, value in learner.candidate.state_dict().items():
        if value.is_floating_point():
            expected = 0.4 * package[name] + 0.6 * learnt[name]
            assert torch.allclose(value, expected, atol=1e-6), name
    inputs = Inputs(*map(torch.from_numpy, random_inputs(WHOLE.input_spec, 1)))
    with torch.inference_mode():
        assert learner.candidate(inputs).depth.shape[1:] == (96, 128)
