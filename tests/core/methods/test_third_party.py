"""A third party's method, found by its entry point: pretrained, probed, resumed, fine-tuned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from lemumo_core.cli.finetune import main as finetune
from lemumo_core.cli.pretrain import main as pretrain
from lemumo_core.faults import Fault
from lemumo_core.methods.registry import load_methods
from lemumo_core.train.checkpoint import checkpoints
from lemumo_core.train.run_folder import read_metrics
from lemumo_core.train.weights import read_weights
from tests.helpers.paths import TOY_METHOD

OPTIONS = """
batch: 4
steps: 4
val_frames: 4
model: {size: nano, height: 48, width: 64}
log: {checkpoint_every: 2, tensorboard: false}
"""


def test_it_is_used_as_our_own(street_shards: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(TOY_METHOD)
    (tmp_path / "small.yaml").write_text(OPTIONS)
    shared = ["--config", str(tmp_path / "small.yaml"), "--data", str(street_shards)]
    run = [*shared, "--method", "Toy", "--method.momentum", "0.5", "--log.probe_steps", "2"]
    out = tmp_path / "run"
    assert pretrain([*run, "--out", str(out)]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["method"]["class_path"] == "Toy"
    assert config["method"]["init_args"]["momentum"] == 0.5
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["probes"]) == ["raw patches", "untrained", "pretrained"]
    assert list(summary["probes"]["pretrained"]) == ["fused"]

    before = read_metrics(out)
    shutil.rmtree(checkpoints(out / "checkpoints")[-1])  # as if it had been stopped halfway
    again = ["--config", str(out / "config.yaml"), "--out", str(out), "--resume", "auto"]
    assert pretrain(again) == 0
    names = ("loss", "prediction", "gradient_norm")
    for old, new in zip(before, read_metrics(out), strict=True):
        assert [old[name] for name in names] == [new[name] for name in names]

    tuned = tmp_path / "tuned"
    options = ["--weights", str(out), "--heads_first", "9", "--out", str(tuned)]
    assert finetune([*shared, *options]) == 0
    start, end = read_weights(out)[0], read_weights(tuned)[0]
    assert start.keys() < end.keys()
    assert all((end[name] == value).all() for name, value in start.items())


def test_a_broken_entry_point_is_named(tmp_path: Path, monkeypatch) -> None:
    info = tmp_path / "broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[lemumo.methods]\nlost = nowhere_at_all:Lost\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Fault, match=r"method lost = nowhere_at_all:Lost of broken .* imported"):
        load_methods()
