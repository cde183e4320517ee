"""A replay's recording for the Rerun viewer, read back by Rerun's own reader."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.geometry.se3 import rotation_from_quaternion, transform
from tests.helpers.bag_tools import FRAMES as BAG_FRAMES
from tests.helpers.small_frames import CAMERA, small_frames
from tests.helpers.two_cameras import with_rear_camera

rerun = pytest.importorskip("rerun", reason="pip install '.[rerun]'")
FRAMES = 3


@pytest.fixture(scope="module")
def replayed(tiny_package, tmp_path_factory) -> Path:
    """The folder of a replayed bag."""
    folder = tmp_path_factory.mktemp("rerun")
    write_bag(small_frames(FRAMES), folder / "street")
    command = ["replay", folder / "street", "--model", tiny_package, "--out", folder / "out"]
    command += ["--backend", "onnxruntime", "--score-threshold", 0.05, "--rerun"]
    assert cli.main([str(word) for word in [*command, "--no-evaluation"]]) == 0
    return folder / "out" / "street"


@pytest.fixture(scope="module")
def rows(replayed) -> dict[str, list[dict]]:
    return rows_of(replayed / "results.rrd")


def rows_of(recording: Path) -> dict[str, list[dict]]:
    """Return the rows of each entity in the order of images, with stamps in ns."""
    found = defaultdict(list)
    for chunk in rerun.chunk.RrdReader(str(recording)).stream():
        batch = chunk.to_record_batch()
        some = batch.to_pylist()
        if "stamp" in batch.schema.names:
            stamps_ns = batch.column("stamp").cast("int64").to_pylist()
            some = [{**row, "stamp": ns} for row, ns in zip(some, stamps_ns, strict=True)]
        found[chunk.entity_path] += some
    for entity in found.values():
        entity.sort(key=lambda row: row.get("image", -1))
    return found


def test_every_result_stands_beside_its_inputs(rows, replayed) -> None:
    frames = list(small_frames(FRAMES))
    counts = Counter({name: sum("stamp" in row for row in found) for name, found in rows.items()})
    assert counts["/result/depth"] == counts["/result/labels"] == counts["/lidar"] == FRAMES
    assert counts["/camera/image"] == 2 * FRAMES  # a pinhole and a picture
    for frame, row in zip(frames, rows["/lidar"], strict=True):
        assert row["stamp"] == frame.stamp_ns
        scan = frame.companion
        points = transform(scan.T_camera_lidar, scan.points[:, :3])
        np.testing.assert_allclose(row["Points3D:positions"], points, atol=1e-3)
    pinhole = next(row for row in rows["/camera/image"] if "Pinhole:resolution" in row)
    assert pinhole["Pinhole:resolution"] == [[CAMERA.width, CAMERA.height]]


def test_boxes_are_those_of_the_results(rows, replayed) -> None:
    lines = [json.loads(line) for line in (replayed / "detections.jsonl").open()]
    assert sum(len(line["detections"]) for line in lines) > 10
    for line, row in zip(lines, rows["/detections"], strict=True):
        boxes = np.array([found["box_3d"] for found in line["detections"]])
        np.testing.assert_allclose(row["Boxes3D:centers"], boxes[:, :3], rtol=1e-4)
        np.testing.assert_allclose(
            2 * np.array(row["Boxes3D:half_sizes"]), boxes[:, 3:6], rtol=1e-4
        )
        for (x, y, z, w), yaw in zip(row["Boxes3D:quaternions"], boxes[:, 6], strict=True):
            length = rotation_from_quaternion(w, x, y, z)[:, 0]
            np.testing.assert_allclose(length, [np.cos(yaw), 0, -np.sin(yaw)], atol=1e-4)
        names = [text.split()[0] for text in row["Boxes3D:labels"]]
        assert names == [found["class"] for found in line["detections"]]


def test_several_cameras_have_entities_of_their_own(toy_package, small_bag, tmp_path) -> None:
    bag = with_rear_camera(small_bag, tmp_path / "two")
    command = ["replay", bag, "--model", toy_package, "--out", tmp_path / "out", "--rerun"]
    command += ["--image", "all", "--no-evaluation", "--backend", "onnxruntime"]
    assert cli.main([str(word) for word in command]) == 3  # no LiDAR return is behind
    found = rows_of(tmp_path / "out" / "two" / "results.rrd")
    for name in ("camera", "rear"):
        assert sum("stamp" in row for row in found[f"/{name}/result/depth"]) == BAG_FRAMES
        assert found[f"/{name}"] and found[f"/{name}/result/labels"]
    assert "/result/depth" not in found


def test_without_rerun_it_says_what_to_install(
    tiny_package, replayed, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    bag = replayed.parents[1] / "street"
    command = ["replay", bag, "--model", tiny_package, "--out", tmp_path / "out", "--rerun"]
    assert cli.main([str(word) for word in [*command, "--backend", "onnxruntime"]]) == 1
    assert "pip install 'rerun-sdk" in capsys.readouterr().err
