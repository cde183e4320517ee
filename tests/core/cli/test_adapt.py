"""``lemumo adapt`` from a bag to a package: stopped, refused, resumed and written."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lemumo_core.cli import adapt
from lemumo_core.cli.adapt import NOT_BETTER, main
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.export.package import ModelCard
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import Package, load_package, sha256, write_package
from lemumo_core.inference.provenance import UNKNOWN, training_sources
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel, save_weights, seeded_model
from lemumo_core.signals import REQUEUE
from lemumo_core.train.adapt import verdict
from lemumo_core.train.finetune import validation
from lemumo_core.train.run_folder import read_metrics
from tests.core.train.finetune.test_learner import Small
from tests.helpers.paths import ROOT

STEPS = 3


def write_weights(model: PerceptionModel, out: Path, card: ModelCard, *_: object) -> Package:
    """Write a package without graphs, whose export takes longer than all else here."""
    out.mkdir(parents=True)
    save_weights(model, out / "weights.safetensors")
    more = {"training": card.training, "metrics": card.metrics}
    return write_package(out, manifest_of(model.config, card.name, card.trained, **more))


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """Random weights as a package."""
    folder = tmp_path_factory.mktemp("packages") / "theirs"
    model = seeded_model(ModelConfig(size="nano", height=48, width=64), 0)
    return write_weights(model, folder, ModelCard("theirs", trained=True)).path


def test_stopped_refused_and_at_last_better(
    package, small_bag, tmp_path, monkeypatch, capsys, caplog
) -> None:
    out, shards = tmp_path / "mine", tmp_path / "shards"
    write_shards(Small(), shards, frames_per_shard=8, workers=1)
    shutil.copytree(package, out)  # an earlier package, which stays until a better one is
    monkeypatch.setattr(adapt, "export_package", write_weights)
    old, run = sha256(out / "manifest.json"), tmp_path / "mine.run"
    command = [
        *(str(package), str(small_bag), "--out", str(out), "--labelled", str(shards)),
        *("--steps", str(STEPS), "--batch", "4", "--val_frames", "2"),
    ]
    assert main(command) == 1 and "--overwrite" in capsys.readouterr().err
    (out / "notes.txt").write_text("mine")
    evaluate_frame = validation.evaluate_frame

    def stop_after_training(*arguments: object) -> object:
        if read_metrics(run):
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_frame(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(validation, "evaluate_frame", stop_after_training)
        assert main([*command, "--overwrite"]) == REQUEUE
    assert f"saved: --out {out} --resume auto goes on" in caplog.text
    assert len(read_metrics(run)) == STEPS - 1 and sha256(out / "manifest.json") == old

    with monkeypatch.context() as patched:
        patched.setattr(verdict, "LEAST_GAIN", 1.0)
        assert main([*command, "--overwrite", "--resume", "auto"]) == NOT_BETTER
    assert "not better: depth on own frames gained" in capsys.readouterr().out
    assert sha256(out / "manifest.json") == old
    assert "not better" in (run / "index.html").read_text()

    for name, value in {"LEAST_GAIN": -1.0, "LARGEST_LOSS": 1.0, "TOLERANCE": 1.0}.items():
        monkeypatch.setattr(verdict, name, value)  # random pixels teach little
    assert main([*command, "--overwrite", "--resume", "auto"]) == 0
    manifest = load_package(out).manifest
    assert sha256(out / "manifest.json") != old and not (run / "package").exists()
    assert (out / "notes.txt").read_text() == "mine"
    origin = manifest.training["adapted_from"]
    assert origin["manifest_sha256"] == sha256(package / "manifest.json")
    assert training_sources(manifest.training) == {"bags", "small", UNKNOWN}  # random weights
    assert manifest.training["options"]["data_options"] == {"path": [str(small_bag)]}
    assert manifest.metrics["fused"]["depth_mae_m"] > 0
    shipped, best = load_file(out / "weights.safetensors"), load_file(run / "model.safetensors")
    assert all(np.array_equal(shipped[name], best[name]) for name in best)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["step"] == STEPS and summary["objections"] == []
    page = (run / "index.html").read_text()
    assert "true ones white" in page
    own = f"of {small_bag.name}</td>"
    adapted = f"<td>theirs {load_package(package).manifest.version}</td>"
    assert adapted in page and own in page and "of shards</td>" in page
    assert str(tmp_path) not in page and str(small_bag.parent) not in page
    assert "fused, before" in page and "linear" in page and page.count("<img") >= 4


def test_what_cannot_be_adapted_is_named(package, tmp_path, capsys) -> None:
    out = ["--out", str(tmp_path / "mine")]
    assert main([str(package), *out]) == 1
    assert "name some" in capsys.readouterr().err
    assert main([str(package), "a.mcap", "--data", "synthetic", *out]) == 1
    assert "leave out one of them" in capsys.readouterr().err
    assert main([str(tmp_path), "a.mcap", *out]) == 1
    assert "is not a model package" in capsys.readouterr().err
    thermal = str(ROOT / "models" / "lemumo-tiny-thermal")
    assert main([thermal, "a.mcap", *out]) == 1
    assert "takes a camera and thermal" in capsys.readouterr().err and not list(tmp_path.iterdir())
