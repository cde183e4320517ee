"""The programs in ``examples/``, each on small data, as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.small_frames import small_frames

MAX_LINES = 60
BAG_FRAMES = 12


def run(name: str, *arguments: object, folder: Path) -> str:
    """Run an example in a folder; return what it prints."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert f"]({path.name})" in (ROOT / "examples" / "README.md").read_text()


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """A bag of small frames."""
    pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')
    from lemumo_core.bags.writer import write_bag

    path = tmp_path_factory.mktemp("examples") / "bag"
    write_bag(small_frames(BAG_FRAMES), path)
    return path


def test_bag_to_result(bag: Path, toy_package: Path, tmp_path: Path) -> None:
    """Every frame has a line of its own, with both sensors; the picture is there."""
    output = run("bag_to_result.py", bag, toy_package, folder=tmp_path)
    frames = [line for line in output.splitlines() if line.endswith(": camera + lidar")]
    assert [int(line.split(":")[0]) for line in frames] == [
        frame.stamp_ns for frame in small_frames(BAG_FRAMES)
    ]
    assert cv2.imread(str(tmp_path / "result.png")) is not None


def test_add_a_source(tmp_path: Path) -> None:
    """The shards hold the images, points and calibration of the folder."""
    pytest.importorskip("pyarrow", reason='shards need: pip install "lemumo_ros[train]"')
    from lemumo_core.data.shards import Shards

    frames = small_frames(3)
    data = tmp_path / "data"
    data.mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(data / f"{i:03}.png"), frame.image[..., ::-1])
        np.save(data / f"{i:03}.npy", frame.companion.points)
    calibration = {
        "K": frames[0].camera.K.tolist(),
        "T_camera_lidar": frames[0].companion.T_camera_lidar.tolist(),
    }
    (data / "calibration.json").write_text(json.dumps(calibration))
    run("add_a_source.py", data, tmp_path / "shards", folder=tmp_path)
    written = Shards(tmp_path / "shards")
    assert len(written) == len(frames)
    for frame, again in zip(frames, written, strict=True):
        np.testing.assert_array_equal(again.image, frame.image)
        np.testing.assert_array_equal(again.companion.points, frame.companion.points)
        np.testing.assert_allclose(again.companion.T_camera_lidar, frame.companion.T_camera_lidar)
        np.testing.assert_allclose(again.camera.K, frame.camera.K)
