"""Weights of pretraining: what fine-tuning and later pretraining take of them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from lemumo_core.inference.package import WEIGHTS_NAME, load_package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model, seeded_model
from lemumo_core.train import checkpoint
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.pretrain.learner import PretrainLearner, seeded_method
from lemumo_core.train.run_config import to_dict
from tests.helpers.paths import ROOT
from tests.helpers.small_run import small_config, small_method

ALONE = DistInfo(0, 1, torch.device("cpu"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_neck_and_depth_head_go_on_where_pretraining_left_them(tmp_path) -> None:
    config = small_config(method=small_method(mask_returns=1.0))
    method = seeded_method(config)
    state = {"schema": checkpoint.SCHEMA, "step": 1, "config": to_dict(config)}
    path = tmp_path / "step-1"
    checkpoint.save(path, {checkpoint.MODEL: method.state_dict()}, state)
    branch = method.depth_branch
    assert branch is not None
    model, untouched = seeded_model(config.model, 1), seeded_model(config.model, 1)
    load_perception(model, path)
    assert model.neck is not None
    assert same(model.neck.state_dict(), branch.neck.state_dict())
    assert same(model.depth.state_dict(), branch.depth.state_dict())
    assert same(model.centernet.state_dict(), untouched.centernet.state_dict())
    assert not same(untouched.depth.state_dict(), model.depth.state_dict())

    probe = seeded_model(replace(config.model, head_preset="paper"), 1)
    load_perception(probe, path / "model.safetensors")  # in its run, too
    assert same(dict(probe.encoder.state_dict()), dict(method.encoder.state_dict()))


def test_fine_tuning_goes_on_from_a_package() -> None:
    package = load_package(ROOT / "models" / "lemumo-tiny")
    config = ModelConfig.from_dict(package.manifest.model)
    shipped = load_model(config, package.file(WEIGHTS_NAME)).state_dict()
    model = seeded_model(config, 1)
    assert not same(model.state_dict(), shipped)
    load_perception(model, package.path)
    assert same(model.state_dict(), shipped)


@pytest.mark.parametrize("family", ["deploy", "paper"])
def test_other_classes_keep_the_weights_of_those_that_stay(tmp_path, family) -> None:
    config = ModelConfig(size="nano", height=48, width=64, head_preset=family)
    trained = seeded_model(config, 1)
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    (tmp_path / "model.json").write_text(json.dumps(asdict(config)))
    own = {"detection_classes": ("pedestrian", "forklift"), "segmentation_classes": ("rack", "sky")}
    model = seeded_model(replace(config, **own), 2)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_perception(model, path)
    heat, old = model.centernet.heatmap.weight, trained.centernet.heatmap.weight
    assert torch.equal(heat[0], old[config.detection_classes.index("pedestrian")])
    assert torch.equal(heat[1], fresh["centernet.heatmap.weight"][1])
    maps = torch.rand(1, model.neck.width, 2, 3)
    before, after = trained.segmentation.eval()(maps), model.segmentation.eval()(maps)
    torch.testing.assert_close(after[:, 1], before[:, config.segmentation_classes.index("sky")])
    assert same(dict(model.encoder.state_dict()), dict(trained.encoder.state_dict()))


@pytest.mark.parametrize(("there", "here"), [("lidar", "thermal"), ("thermal", "lidar")])
def test_another_companion_starts_from_all_that_does_not_look_at_it(tmp_path, there, here) -> None:
    config = ModelConfig(size="nano", height=48, width=64, companion=there)
    trained = seeded_model(config, 1).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(trained, path)
    (tmp_path / "model.json").write_text(json.dumps(asdict(config)))
    model = seeded_model(replace(config, companion=here), 2)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_perception(model, path)
    own = model.state_dict()
    embedding = {name for name in own if ".patch_embed.companion." in name}
    assert len(embedding) == 4 and all(torch.equal(own[n], fresh[n]) for n in embedding)
    details = "neck.details.0.0.weight"
    same_inputs = min(own[details].shape[1], trained[details].shape[1])
    assert own[details].shape != trained[details].shape
    assert torch.equal(own[details][:, :same_inputs], trained[details][:, :same_inputs])
    assert torch.equal(own[details][:, same_inputs:], fresh[details][:, same_inputs:])
    rest = own.keys() - embedding - {details}
    assert all(torch.equal(own[name], trained[name]) for name in rest)


def test_pretraining_goes_on_from_the_encoder_of_a_package(caplog) -> None:
    package = load_package(ROOT / "models" / "lemumo-tiny")
    config = ModelConfig.from_dict(package.manifest.model)
    shipped = load_model(config, package.file(WEIGHTS_NAME)).encoder.state_dict()
    learner = PretrainLearner(small_config(model=config), 10, ALONE)
    assert not same(learner.method.encoder.state_dict(), shipped)
    learner.load(package.path)
    assert same(learner.method.encoder.state_dict(), shipped)
    assert "lemumo-tiny and this run share encoder" in caplog.text


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_weights_of_a_run_that_masks_returns_and_of_one_that_does_not(
    weights, tmp_path, caplog
) -> None:
    there, here = (
        PretrainLearner(
            small_config(method=small_method(mask_returns=weight), seed=seed), 10, ALONE
        )
        for seed, weight in enumerate(weights)
    )
    path = tmp_path / "weights.safetensors"
    save_file(there.weights(), path)
    own = {name: value.clone() for name, value in here.weights().items()}
    here.load(path)
    for name, value in here.weights().items():
        expected = there.weights().get(name, own[name])
        assert torch.equal(value, expected), name
    assert any(name.startswith("depth_branch") for name in own) == (weights[1] > 0)
    assert ("depth_branch" in caplog.text) == (weights[0] != weights[1])
