"""The programs in ``examples/``, each on small data."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.exported import two_blocks
from tests.helpers.paths import ROOT
from tests.helpers.small_frames import small_frames

MAX_LINES = 40
BAG_FRAMES = 20


def code_lines(path: Path) -> int:
    """Count the lines of a program: without imports, docstrings, comments and blank lines."""
    text = path.read_text()
    left = {i for i, line in enumerate(text.splitlines(), 1) if line.strip(" #") == line.strip()}
    left -= {i for i, line in enumerate(text.splitlines(), 1) if not line.strip()}
    for node in ast.walk(ast.parse(text)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            left -= set(range(node.lineno, node.end_lineno + 1))
    return len(left)


def run(name: str, *arguments: object, folder: Path) -> str:
    """Run an example in a folder, as a user starts it; return what it prints."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_here(name: str, *arguments: object, folder: Path) -> None:
    """Run an example in this process, where PyTorch is there and tiny models have two blocks."""
    with pytest.MonkeyPatch.context() as patch, two_blocks():
        patch.chdir(folder)
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        except SystemExit as ended:
            assert not ended.code


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert code_lines(path) <= MAX_LINES
    assert f"]({path.name})" in (ROOT / "examples" / "README.md").read_text()


@pytest.mark.parametrize("name", ["bag_to_result.py", "add_a_source.py"])
def test_wrong_arguments_are_answered_in_a_line(name: str, tmp_path: Path) -> None:
    """The message names what is missing, without a traceback."""
    pytest.importorskip("pyarrow", reason="shards need: pip install '.[train]'")
    for arguments, answer in ([], "required: "), ([tmp_path / "none"] * 2, "none"):
        arguments = arguments[: 1 if name == "bag_to_result.py" else 2]
        command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode != 0 and answer in result.stderr
        assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """A bag of small frames."""
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag

    path = tmp_path_factory.mktemp("examples") / "bag"
    write_bag(small_frames(BAG_FRAMES), path)
    return path


def test_bag_to_result(bag: Path, toy_package: Path, tmp_path: Path) -> None:
    """Every frame has a line of its own, with both sensors; the picture is there."""
    output = run("bag_to_result.py", bag, "--package", toy_package, folder=tmp_path)
    frames = [line for line in output.splitlines() if line.endswith(": camera + lidar")]
    assert [int(line.split(":")[0]) for line in frames] == [
        frame.stamp_ns for frame in small_frames(BAG_FRAMES)
    ]
    assert cv2.imread(str(tmp_path / "result.png")) is not None


def test_add_a_source(tmp_path: Path) -> None:
    """The shards hold the images, points and calibration of the folder."""
    pytest.importorskip("pyarrow", reason="shards need: pip install '.[train]'")
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


@pytest.fixture(scope="module")
def log_to_package(bag: Path, tmp_path_factory) -> Path:
    """The folder in which that example ran for two steps."""
    pytest.importorskip("torch", reason="training needs: pip install '.[train]'")
    folder = tmp_path_factory.mktemp("log_to_package")
    run_here("log_to_package.py", bag, "models/mine", "--steps", 2, folder=folder)
    return folder


@pytest.mark.slow
def test_log_to_package(log_to_package: Path) -> None:
    """The package is whole, and its weights are those of the run."""
    from lemumo_core.inference.package import load_package

    package = load_package(log_to_package / "models" / "mine")
    assert package.manifest.trained
    assert package.manifest.metrics


@pytest.mark.slow
def test_add_a_method(log_to_package: Path, monkeypatch) -> None:
    """It trains on the frames of the other example; fine-tuning would start from its encoder."""
    from lemumo_core.train.weights import read_weights

    options = "--data out/frames/mine --out out/agreement --steps 2 --batch 4 --val_frames 2"
    options += " --log.probes false --method.dimensions 16"
    run("add_a_method.py", *options.split(), folder=log_to_package)
    monkeypatch.syspath_prepend(ROOT / "examples")
    weights, _ = read_weights(log_to_package / "out" / "agreement")
    assert {name.partition(".")[0] for name in weights} == {"encoder"}
