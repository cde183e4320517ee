"""What pip installs outside the clone runs: a wheel, fresh environments, the command ``lemumo``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.small_frames import small_frames

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PARTS = ("lemumo_core", "lemumo_ros", "config", "launch", "rviz", "foxglove", "resource", "scripts")
FILES = ("setup.py", "package.xml", "pyproject.toml")
REST = """
import sys
import lemumo_core
from lemumo_core.cli.main import main

assert main(["inspect", "bag"]) == 0
assert main(["verify", sys.argv[1]]) == 0
print(lemumo_core.load(sys.argv[1], "onnxruntime"))
assert main(["pretrain", "--steps", "2"]) == 1
"""
"""What else a vehicle does, in one process: each would import the same again."""
NO_NETWORK = ("NewConnectionError", "NameResolutionError", "Failed to establish a new connection")


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program outside the clone, which must not be on its path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)


def succeed(*command: object, cwd: Path) -> str:
    """Run a program that must succeed; return its standard output."""
    result = run(*command, cwd=cwd)
    if any(sign in result.stderr for sign in NO_NETWORK):
        pytest.skip("no package index can be reached")
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a build writes into its sources."""
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    succeed(*pip, "-w", folder, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def environment(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Make an empty virtual environment.

    Returns:
        Its folder of programs, and the pip command for it: that of this Python.
    """
    venv.create(folder)
    programs = folder / "bin"
    return programs, (sys.executable, "-m", "pip", "--python", str(programs / "python"))


def test_a_vehicle_replays_with_what_the_bags_extra_brings(wheel, toy_package, tmp_path) -> None:
    """Everything is installed from the package index, nothing is shared with this Python."""
    pytest.importorskip("rosbags", reason="writing a bag needs rosbags")
    from lemumo_core.bags.writer import write_bag

    write_bag(small_frames(3), tmp_path / "bag")
    programs, pip = environment(tmp_path / "venv")
    succeed(*pip, "install", "-q", "--no-compile", f"{wheel}[bags]", cwd=tmp_path)
    succeed(*pip, "check", cwd=tmp_path)
    lemumo = programs / "lemumo"
    replay = (lemumo, "replay", "bag", "--model", toy_package, "--out", "out")
    succeed(*replay, "--backend", "onnxruntime", cwd=tmp_path)
    assert (tmp_path / "out" / "index.html").exists()
    rest = run(programs / "python", "-c", REST, toy_package, cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert "/camera/image_raw" in rest.stdout and "is whole" in rest.stdout
    assert "Pipeline" in rest.stdout
    assert "lemumo pretrain: torch is missing: pip install 'onnx" in rest.stderr


def test_pretraining_runs_outside_the_clone(wheel, tmp_path) -> None:
    """lemumo is installed from its wheel; PyTorch and the rest, gigabytes, are this Python's."""
    pytest.importorskip("torch", reason="training needs PyTorch")
    programs, pip = environment(tmp_path / "venv")
    succeed(*pip, "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    where = "import lemumo_core; print(lemumo_core.__file__)"
    assert succeed(programs / "python", "-c", where, cwd=tmp_path).startswith(str(site))

    small = (
        "--model.size",
        "nano",
        "--model.height",
        48,
        "--model.width",
        64,
        "--batch",
        4,
        "--held-out",
        4,
    )
    small += ("--data_options.frames", 8, "--log.probes", "false", "--scale.workers", 0)
    command = (programs / "lemumo", "pretrain", "--steps", 2, "--out", "run", *small)
    succeed(*command, cwd=tmp_path)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_no_extra_brings_a_second_onnxruntime(wheel) -> None:
    """``onnxruntime`` and ``onnxruntime-gpu`` install into one folder, where the last one wins."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    declared = [line for line in lines if line.startswith("Requires-Dist: onnxruntime")]
    assert len(declared) == 1 and "gpu" not in declared[0] and "extra" not in declared[0]
