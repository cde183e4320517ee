"""Exports of the same weights with an input of another size, or with a vote of the companion."""

from __future__ import annotations

import torch

from lemumo_core.cli import main as cli
from lemumo_core.export.package import ModelCard
from lemumo_core.export.parity_inputs import random_samples
from lemumo_core.export.weights import resized, with_vote
from lemumo_core.inference.package import load_package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import seeded_model
from lemumo_core.preprocess import Inputs

METRICS = {"fused": {"depth_mae_m": 1.0}}


def test_a_resized_model_predicts_as_the_old_one_on_views_of_that_size() -> None:
    for variant in ("pruned", "late"):
        model = seeded_model(ModelConfig("lemumo", "nano", 64, 96, variant=variant), 0)
        network, card = resized(model, ModelCard("m", True, {}, METRICS), 96, None)
        assert network.config.grid == (6, 6) and card.metrics == {}
        assert card.training["resized_from"] == {"height": 64, "width": 96}
        (sample, *_) = random_samples(network.config.input_spec, 1)
        inputs = Inputs(*(torch.from_numpy(each) for each in sample.inputs))
        with torch.no_grad():
            for ours, expected in zip(network.encoder(inputs), model.encoder(inputs), strict=True):
                torch.testing.assert_close(ours, expected)


def test_the_same_size_changes_nothing() -> None:
    model, card = seeded_model(ModelConfig("lemumo", "nano", 64, 96), 0), ModelCard("m", True)
    assert resized(model, card, 64, None) == (model, card)


def test_a_package_is_exported_for_another_size_and_verified(tiny_package, tmp_path, capsys):
    command = ["export", "--package", str(tiny_package), "--out", str(tmp_path / "new")]
    for refused in (["--model.companion", "thermal"], ["--model.height", "256"]):
        assert cli.main([*command, *refused]) == 1
        assert "bring their own architecture" in capsys.readouterr().err
    assert cli.main([*command, "--height", "100"]) == 1
    assert "16" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert cli.main([*command, "--height", "80", "--width", "128"]) == 0
    manifest = load_package(tmp_path / "new").manifest
    assert (manifest.input.height, manifest.input.width) == (80, 128)
    assert manifest.training["resized_from"] == {"height": 64, "width": 96}
    assert cli.main(command) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_a_package_is_exported_with_a_vote_and_verified(tiny_package, tmp_path, capsys) -> None:
    command = ["export", "--package", str(tiny_package), "--out", str(tmp_path / "new")]
    assert cli.main([*command, "--companion_vote", "2"]) == 1
    assert "companion_vote is 2.0, must be in [0, 1]" in capsys.readouterr().err
    assert cli.main([*command, "--companion_vote", "0.5"]) == 0
    manifest, old = (load_package(path).manifest for path in (tmp_path / "new", tiny_package))
    assert manifest.model == {**old.model, "companion_vote": 0.5}
    model, card = seeded_model(ModelConfig.from_dict(old.model), 0), ModelCard("m", True)
    assert with_vote(model, card, 0.0) == (model, card)
    _, voting = with_vote(model, ModelCard("m", True, {}, METRICS), 0.5)
    assert not voting.metrics
