"""Options, configurations and checkpoints of version 0.1 are read once, with a note."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.model.perception import seeded_model
from lemumo_core.train import checkpoint, compatibility
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.run_config import RunConfig, command_line, from_dict, from_namespace, to_dict
from tests.helpers.small_run import small_batch, small_config, small_method

ALONE = DistInfo(0, 1, torch.device("cpu"))
OLD = """
held_out: 5
modality_dropout: 0.25
views: {local_views: 2}
objective: {weight: 0.2, tokens: false, returns: 3.0}
optimiser: {lr: 3.0e-4}
"""


def parse(kind: type[RunConfig], *arguments: str) -> RunConfig:
    parser = command_line(kind)
    return from_namespace(kind, parser, parser.parse_args(list(arguments)))


def test_arguments(caplog) -> None:
    old = [
        "--objective.name",
        "lejepa",
        "--objective.weight",
        "0.2",
        "--objective.returns=3",
        "--optimiser.lr",
        "3e-4",
    ]
    old += ["--views.local_views", "2", "--modality_dropout=0.25", "--held-out", "5"]
    new = [
        "--method.objective",
        "lejepa",
        "--method.sigreg_weight",
        "0.2",
        "--method.mask_returns=3",
        "--optimizer.lr",
        "3e-4",
    ]
    new += ["--method.views.local_views", "2", "--method.modality_dropout=0.25"]
    config = parse(PretrainConfig, *old)
    assert "--objective.weight is --method.sigreg_weight since version 0.2" in caplog.text
    caplog.clear()
    assert config == parse(PretrainConfig, *new, "--val_frames", "5") and not caplog.records


def test_a_file(tmp_path: Path, caplog) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    config = parse(PretrainConfig, "--config", str(path), "--objective.tokens", "true")
    method = config.method
    assert isinstance(method, LeMuMo)
    assert (method.sigreg_weight, method.tokens, method.mask_returns) == (0.2, True, 3.0)
    assert method.views.local_views == 2 and method.modality_dropout == 0.25
    assert config.val_frames == 5 and config.optimizer.lr == 3e-4
    assert f"{path} has options of version 0.1 (held_out, modality_dropout," in caplog.text


def test_fine_tuning_keeps_its_own_modality_dropout() -> None:
    config = parse(FinetuneConfig, "--modality_dropout", "0.1", "--held_out", "3")
    assert isinstance(config, FinetuneConfig)
    assert (config.modality_dropout, config.val_frames) == (0.1, 3)


def old_name(name: str) -> str:
    for new, old in (("projector.embedding.", "embedding."), ("projector.layers.", "projector.")):
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name.removeprefix("encoder.")


@pytest.fixture
def old_run(tmp_path: Path) -> tuple[PretrainLearner, Path]:
    """A learner after a step, and its checkpoint as version 0.1 wrote it."""
    of_then = {
        "objective": "lejepa",
        "sigreg_weight": 0.5,
        "tokens": True,
        "mask_returns": 1.0,
        "masked_weight": 0.0,
    }
    config = small_config(method=small_method(**of_then))
    learner = PretrainLearner(config, 10, ALONE)
    learner.learn(small_batch(config), 0)
    tensors = learner.tensors()
    files = {
        kind.replace("optimizer", "optimiser"): {
            old_name(name) if kind in ("model", "optimizer") else name: value
            for name, value in values.items()
        }
        for kind, values in tensors.items()
    }
    assert "cls_token" in files["model"] and "projector.0.weight" in files["model"]
    values = to_dict(config)
    method = values.pop("method")["init_args"]
    values |= {
        "optimiser": values.pop("optimizer"),
        "held_out": values.pop("val_frames"),
        "views": method["views"],
        "modality_dropout": 0.0,
        "objective": {"weight": 0.5, "tokens": True, "returns": 1.0},
    }
    path = tmp_path / "checkpoints" / "step-00000001"
    checkpoint.save(path, files, {"step": 1, "config": values})
    return learner, path


def test_an_old_run_goes_on(old_run) -> None:
    learner, path = old_run
    found = checkpoint.open_checkpoint(path)
    assert from_dict(PretrainConfig, found.state["config"]) == learner.config
    resumed = PretrainLearner(learner.config, 10, ALONE)
    resumed.restore(found)
    batch = small_batch(learner.config)
    assert resumed.learn(batch, 1).read() == learner.learn(batch, 1).read()


def test_a_run_of_before_there_was_a_view_of_whole_images_has_the_bottom_rows() -> None:
    now = PretrainConfig()
    values = to_dict(now)
    del values["model"]["whole_image"]
    assert now.model.whole_image
    before = replace(now, model=replace(now.model, whole_image=False))
    assert from_dict(PretrainConfig, values) == before
    assert before.canvas_spec.whole_image is False


def test_old_weights_are_fine_tuned(old_run) -> None:
    learner, path = old_run
    model = seeded_model(learner.config.model, 1)
    load_perception(model, path)
    exported = learner.method.exported()
    assert exported is not None and asdict(exported[0]) == asdict(learner.config.model)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in exported[1].items())


def test_weights_have_todays_names() -> None:
    old = {"encoder.stems.image.weight": torch.ones(1), "neck.stems.absent": torch.zeros(1)}
    assert set(compatibility.method_tensors(old)) == {
        "encoder.patch_embed.image.weight",
        "neck.patch_embed.absent",
    }
    assert set(compatibility.method_tensors({"stems.absent": torch.ones(1)})) == {
        "encoder.patch_embed.absent"
    }
