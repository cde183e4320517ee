"""The comparison's one command, on a world of a few frames: every run is real."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import _runs, few_labels
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.train.weights import read_weights
from tests.helpers.program import run_here


def test_runs_with_and_without_pretraining_are_compared(tmp_path, monkeypatch) -> None:
    street = SyntheticStreet(frames=14, frames_per_drive=14, width=96, height=64)
    write_shards(street, tmp_path / "shards", frames_per_shard=8, workers=1)
    shared = {"data": tmp_path / "shards", "val_frames": 4, "batch": 4, "steps": 2}
    views = {
        "method.views.global_size": [32, 48],
        "method.views.local_views": 0,
        "log.probes": False,
    }
    size = {"model.size": "nano", "model.height": 64, "model.width": 96}
    pretraining = tmp_path / "pretrain"
    _runs.run("pretrain.py", [], {**shared, **views, **size, "out": pretraining})
    monkeypatch.setattr(_runs, "run", run_here)  # PyTorch has been imported here
    recipe = tmp_path / "small.yaml"
    recipe.write_text("val_frames: 4\nlog: {tensorboard: false}\n")
    monkeypatch.setattr(few_labels, "RECIPE", recipe)
    out = tmp_path / "out"
    command = ["few_labels", "--data", tmp_path / "shards", "--weights", pretraining]
    command += ["--fractions", "0.5", "--steps", "2", "--seeds", "1", "--out", out]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    few_labels.main()
    text = (out / "results.md").read_text()
    rows = [[c.strip() for c in line.split("|")] for line in text.splitlines() if "50%" in line]
    duels = [f"{ours} beats {theirs}" for ours, theirs in few_labels.DUELS]
    assert [row[3] for row in rows] == [*few_labels.ARMS, *duels]
    assert all("±" in cell and "nan" not in cell for row in rows[:4] for cell in row[4:7])

    def learnt(arm: str) -> torch.Tensor:
        return read_weights(few_labels.folder(out, 0.5, arm, 0))[0]["encoder.cls_token"]

    start = read_weights(pretraining)[0]["encoder.cls_token"]
    kept = [arm for arm in few_labels.ARMS if torch.equal(learnt(arm), start)]
    assert kept == ["pretrained, frozen"]
    assert not torch.equal(learnt("random, frozen"), learnt("from scratch"))

    monkeypatch.setattr(_runs, "run", lambda *_: pytest.fail("a finished run was repeated"))
    few_labels.main()
    assert (out / "results.md").read_text() == text
    few = ["from scratch", "pretrained"]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--arms", *few])
    few_labels.main()
    again = (out / "results.md").read_text().splitlines()
    rows = [[c.strip() for c in line.split("|")] for line in again if "50%" in line]
    assert [row[3] for row in rows] == [*few, "pretrained beats from scratch"]


def test_less_error_is_better_and_more_of_the_rest() -> None:
    ours = [{"bev_map": 0.2, "depth_mae_m": 2.0, "miou": 0.5}] * 2
    theirs = [{"bev_map": 0.1, "depth_mae_m": 3.0, "miou": 0.6}] * 2
    wins = {name: few_labels.better(name, ours, theirs) for name in _runs.METRICS}
    assert wins == {"bev_map": 2, "depth_mae_m": 2, "miou": 0}
