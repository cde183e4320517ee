"""A results bag with a class for every LiDAR return, by a 3D network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the 3D network needs: pip install '.[train]'")

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.inference.package import load_package
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.replay.result_bag import OUTPUT
from tests.helpers.point_run import write_point_run
from tests.helpers.small_frames import small_frames


def test_the_cloud_holds_the_classes_of_the_3d_network(toy_package, tmp_path, capsys) -> None:
    run = write_point_run(tmp_path / "points")
    frames = [replace(frame, labels=None) for frame in small_frames(2)]
    write_bag(frames, tmp_path / "bag")
    words = ["replay", tmp_path / "bag", "--model", toy_package, "--out", tmp_path / "out"]
    words = [*map(str, words), "--backend", "onnxruntime", "--no-evaluation", "--results-bag"]
    words += ["--points_model", str(run)]
    assert cli.main(words) == 1
    assert "add it" in capsys.readouterr().err
    assert cli.main([*words, "--labeled-points"]) == 0
    labeler, classes = PointLabeler(run), load_package(toy_package).manifest.classes
    with BagReader([tmp_path / "out" / "bag" / "results"]) as reader:
        clouds = [m.msg for m in reader.messages([OUTPUT + "points_labeled"])]
    assert len(clouds) == 2
    for cloud, frame in zip(clouds, frames, strict=True):
        expected = labeler.label(frame, classes)
        label = next(field for field in cloud.fields if field.name == "label")
        rows = np.asarray(cloud.data).reshape(-1, cloud.point_step)
        found = rows[:, label.offset : label.offset + 4].copy().view(np.float32)[:, 0]
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(expected)) > 3
