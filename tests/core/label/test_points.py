"""Labels of LiDAR returns by a 3D network: what is written, and what the fusion model reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli.finetune import main as finetune
from lemumo_core.cli.label import main as label
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.shards import Shards
from lemumo_core.data.views import clean_view
from lemumo_core.depth_projection import project_returns, visible
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.sparse.segmenter import load_segmenter
from lemumo_core.preprocess import network_view
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.point_run import write_point_run
from tests.helpers.small_frames import small_frames

THRESHOLD = 0.9
OPTIONS = """
batch: 2
steps: 1
val_frames: 0
model: {size: nano, height: 48, width: 64}
scale: {workers: 0}
log: {tensorboard: false}
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tuple[Path, Path]:
    """The run of a 3D network, and shards of a bag whose points it labelled."""
    folder = tmp_path_factory.mktemp("labelled")
    run = write_point_run(folder / "run")
    frames = small_frames(4)
    frames[1] = replace(frames[1], companion=None)
    frames[2].companion.points[:5] = np.nan
    write_bag(frames, folder / "bag")
    words = ["points", str(run), str(folder / "bag"), "--out", str(folder / "labelled")]
    words += ["--threshold", str(THRESHOLD)]
    assert label([*words, "--part", "1/2"]) == 0
    assert [one.name for one in (folder / "labelled").iterdir()] == ["shard-000000.arrow"]
    assert label(words) == 0
    return run, folder / "labelled"


def test_each_return_has_the_class_that_the_network_is_confident_of(labelled) -> None:
    run, out = labelled
    model, classes = load_segmenter(run)
    frames = [small_frames(4)[i] for i in (0, 2, 3)]  # one has no sweep
    found = Shards(out)
    assert [frame.stamp_ns for frame in found] == [frame.stamp_ns for frame in frames]
    for ours, frame in zip(found, frames, strict=True):
        logits, row = model(torch.from_numpy(ours.companion.points)[None])
        probabilities = logits.softmax(1)[row[0].clamp(min=0)]
        confidence, expected = (part.detach().numpy() for part in probabilities.max(1))
        is_return = row[0].numpy() >= 0
        confident = is_return & (confidence >= THRESHOLD)
        labels = ours.labels
        np.testing.assert_array_equal(labels.point_labels[confident], expected[confident])
        assert (labels.point_labels[~confident] == UNLABELLED).all()
        np.testing.assert_allclose(
            labels.point_confidence, np.where(is_return, confidence, 0), atol=1e-3
        )
        assert 0.1 < confident.mean() < 0.9
        assert labels.label_map is None and labels.label_names == classes
        np.testing.assert_array_equal(labels.boxes_3d, frame.labels.boxes_3d)
    about = json.loads((out / "index.json").read_text())["configuration"]["source"]
    assert about["network"] == str(run) and about["threshold"] == THRESHOLD
    assert len(about["sha256"]) == 64 and about["of"]["frames"] == 4


def test_the_fusion_model_learns_from_what_the_camera_sees(labelled, tmp_path) -> None:
    """Held against NumPy's projection and rule of visibility, at the network's resolution."""
    _, out = labelled
    canvas = ModelConfig(height=48, width=80).input_spec
    frames, classes = list(Shards(out)), Taxonomy()
    batch = collate([sample(frame, canvas, classes) for frame in frames])
    found = clean_view(batch).labels.label_map.numpy()
    hidden = 0
    for frame, label_map in zip(frames, found, strict=True):
        scan, view = frame.companion, network_view(frame.camera, canvas)
        every = project_returns(scan.points, scan.T_camera_lidar, view, canvas.depth_min_m)
        seen = set(visible(every, view).row.tolist())
        expected = np.full((canvas.height, canvas.width), UNLABELLED)
        for i in np.argsort(-every.depth_m):
            row = every.row[i]
            pixel = int(every.v[i] + 0.5), int(every.u[i] + 0.5)
            expected[pixel] = frame.labels.point_labels[row] if row in seen else UNLABELLED
            hidden += row not in seen
        np.testing.assert_array_equal(label_map, expected)
    assert hidden and 0 < (found != UNLABELLED).mean() < 0.5
    (tmp_path / "small.yaml").write_text(OPTIONS)
    words = ["--config", str(tmp_path / "small.yaml"), "--data", str(out)]
    assert finetune([*words, "--out", str(tmp_path / "run")]) == 0


def test_what_is_no_run_is_named(labelled, tmp_path, capsys) -> None:
    _, shards = labelled
    words = ["points", str(shards), str(shards), "--out", str(tmp_path / "out")]
    assert label(words) == 1
    assert "finished run of lemumo finetune --task points" in capsys.readouterr().err
