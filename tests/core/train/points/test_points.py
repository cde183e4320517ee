"""Fine-tuning on points: from CMCR's network, probed, resumed, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lemumo_core.cli.finetune import main as finetune
from lemumo_core.cli.pretrain import main as pretrain
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.frame import Labels
from lemumo_core.train.points.weights import read_network
from lemumo_core.train.run_folder import read_metrics
from tests.helpers.small_frames import small_frames

OPTIONS = """
batch: 2
val_frames: 2
model: {height: 48, width: 64}
scale: {workers: 0}
log: {checkpoint_every: 2, tensorboard: false}
"""
NETWORK = {"width": 0.125, "voxels": {"size_m": 1.0, "features": "height"}}


class Street:
    """Frames whose points are road below and buildings above."""

    def __init__(self, labelled: bool = True):
        self.frames = []
        for frame in small_frames(6):
            labels = (frame.companion.points[:, 2] > 0).astype(np.uint8) * 2
            labels[::9] = 255
            known = Labels(point_labels=labels) if labelled else Labels()
            self.frames.append(replace(frame, labels=known))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int):
        return self.frames[index]

    def describe(self) -> dict:
        return {"source": "test", "frames": len(self)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder, and the options that all runs share."""
    folder = tmp_path_factory.mktemp("points")
    write_shards(Street(), folder / "shards", workers=1)
    (folder / "small.yaml").write_text(OPTIONS)
    return folder, ["--config", str(folder / "small.yaml"), "--data", str(folder / "shards")]


@pytest.fixture(scope="module")
def pretrained(shared) -> Path:
    folder, options = shared
    out = folder / "cmcr"
    method = ["--method", "CMCR", "--method.image_weights", "random"]
    method += ["--method.network", json.dumps(NETWORK), "--log.probes", "false", "--steps", "1"]
    assert pretrain([*options, *method, "--out", str(out)]) == 0
    return out


def test_from_cmcr_to_a_class_for_every_point(shared, pretrained, capsys) -> None:
    folder, options = shared
    run = ["--task", "points", *options, "--weights", str(pretrained), "--steps", "12"]
    out = folder / "tuned"
    assert finetune([*run, "--optimizer.lr", "0.02", "--out", str(out)]) == 0
    assert "of one class everywhere" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    metrics = summary["metrics"]
    assert metrics["miou"] > metrics["constant_miou"] > 0.2
    assert set(metrics["iou"]) == {"road", "building"} and len(metrics["miou_by_range"]) > 1
    page = (out / "index.html").read_text()
    assert page.count("data:image/jpeg") == 3 * 2  # two validation frames, three pictures of each
    assert (
        f"mIoU {metrics['miou']:.3f}" in page and f"{metrics['constant_iou']['road']:.3f}" in page
    )
    losses = [line["loss"] for line in read_metrics(out)]
    assert losses[-1] < losses[0]
    tensors, network = read_network(out)
    assert network.width == 0.125 and network.voxels.size_m == 1.0
    assert tensors["head.weight"].shape[0] == 12
    assert json.loads((out / "points.json").read_text())["classes"][0] == "road"


def test_a_probe_leaves_the_network_as_it_was(shared, pretrained) -> None:
    folder, options = shared
    out = folder / "probed"
    run = ["--task", "points", "--mode", "probe", *options, "--weights", str(pretrained)]
    assert finetune([*run, "--steps", "2", "--out", str(out)]) == 0
    before, after = read_network(pretrained)[0], read_network(out)[0]
    names = [name for name in before if name.startswith("network.")]
    assert names and all(torch.equal(before[n], after[n]) for n in names)
    # The configuration names the task: it goes on without --task.
    again = ["--config", str(out / "config.yaml"), "--out", str(out), "--resume", "auto"]
    assert finetune(again) == 0


def test_what_does_not_fit_is_named(shared, tmp_path, capsys) -> None:
    _, options = shared
    assert finetune(["--task", "points", *options, "--mode", "probe"]) == 1
    assert "add --weights RUN" in capsys.readouterr().err
    write_shards(Street(labelled=False), tmp_path / "bare", workers=1)
    bare = ["--task", "points", *options[:2], "--data", str(tmp_path / "bare")]
    assert finetune([*bare, "--out", str(tmp_path / "run")]) == 1
    assert "has labels of LiDAR points" in capsys.readouterr().err
