"""The command that writes shards: killed, interrupted, mistyped, and asked what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.pairs import RgbThermalPairs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

FRAMES = 24
SHARDS = 6


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A folder of RGB and thermal images that takes seconds to write."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        image = rng.integers(0, 255, (400, 600, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}_visible.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        cv2.imwrite(str(folder / f"{i:02d}_lwir.png"), image[::2, ::2, 0])
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "training" / "prepare.py"), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT)


def write(pairs: Path, out: Path, *options: object) -> list[object]:
    return ["rgb-thermal", "--root", pairs, "--out", out, "--frames-per-shard", 4, *options]


def shards(folder: Path) -> dict[str, bytes]:
    kept = [*folder.glob("*.arrow"), *folder.glob("*.json")]
    return {path.name: path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def uninterrupted(pairs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    result = run(*write(pairs, out, "--workers", 2))
    assert result.returncode == 0, result.stderr
    assert f"{FRAMES} frames in {SHARDS} shards" in result.stdout
    return out


def test_what_was_written_is_the_source(pairs, uninterrupted):
    read, source = Shards(uninterrupted), RgbThermalPairs(pairs)
    assert len(read) == len(source) == FRAMES
    for a, b in zip(read, source, strict=True):
        assert np.array_equal(a.image, b.image) and a.camera == b.camera
        assert np.array_equal(a.companion.image, b.companion.image)
        assert a.stamp_ns == b.stamp_ns


def stop_when(
    process: subprocess.Popen[bytes],
    reached: Callable[[], bool],
    number: signal.Signals,
    send: Callable[[int, int], None] = os.kill,
) -> int:
    """Signal a process, or with ``os.killpg`` its group, as soon as a condition holds; its exit
    status."""

    def step() -> None:
        assert process.poll() is None, "finished before it was stopped"
        time.sleep(0.002)

    wait_until(reached, step=step)
    send(process.pid, number)
    return process.wait()


def wait_until_gone(group: int) -> None:
    """All processes of a group have ended."""

    def gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, "the end of the workers")


def start(pairs: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*write(pairs, out, "--workers", workers)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_killed_at_several_moments_it_ends_with_the_same_bytes(pairs, uninterrupted, tmp_path):
    def begun() -> bool:
        return any(part.stat().st_size > 500_000 for part in tmp_path.glob(".*.tmp"))

    def has(count: int) -> Callable[[], bool]:
        return lambda: len(list(tmp_path.glob("*.arrow"))) >= count

    groups, begun_shards = [], []
    for reached, workers, send in (
        (begun, 2, os.killpg),
        (has(1), 1, os.kill),  # the workers see it, and end
        (has(3), 3, os.killpg),
    ):
        process = start(pairs, tmp_path, workers)
        groups.append(process.pid)
        assert stop_when(process, reached, signal.SIGKILL, send) == -signal.SIGKILL
        assert not (tmp_path / "index.json").exists()
        begun_shards += tmp_path.glob(".*.tmp")
    for group in groups:  # what a process that still ends has begun is not removed
        wait_until_gone(group)
    assert begun_shards  # one of the kills was in the midst of a shard
    before = shards(tmp_path)
    assert 3 <= len(before) < SHARDS
    result = run(*write(pairs, tmp_path, "--workers", 1))
    assert result.returncode == 0, result.stderr
    assert shards(tmp_path) == shards(uninterrupted)
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_interrupt_keeps_finished_shards(pairs, uninterrupted, tmp_path):
    process = start(pairs, tmp_path, 2)
    status = stop_when(process, lambda: any(tmp_path.glob("*.arrow")), signal.SIGINT)
    assert status == 85
    wait_until_gone(process.pid)
    kept, whole = shards(tmp_path), shards(uninterrupted)
    assert kept and all(whole[name] == data for name, data in kept.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rgb-therml", "--out", "x"], "did you mean 'rgb-thermal'"),
        (["rgb-thermal", "--rot", "x", "--out", "x"], "did you mean --root?"),
        (
            ["rgb-thermal", "--root", "x", "--out", "x", "--frame-per-shard=3"],
            "--frames_per_shard?",
        ),
        (["rgb-thermal", "--out", "x"], "root"),
        (["--data", "bags,path=x,imag=all", "--out", "x"], "did you mean 'image'"),
        (["rgb-thermal", "--root", "/nowhere", "--out", "x"], "/nowhere does not exist"),
        (["stats", "/nowhere"], "/nowhere does not exist: name a folder"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    from lemumo_core.cli.prepare import main

    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stopped:  # of the parser
        status = stopped.code
    assert status not in (0, None)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_options_may_come_from_a_file(pairs, tmp_path, capsys):
    from lemumo_core.cli.prepare import main

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"root: {pairs}\nfocal_px: 650.0\nframes: 3\njpeg: 90\nworkers: 1\n")
    out = tmp_path / "shards"
    assert main(["rgb-thermal", "--config", str(recipe), "--frames", "2", "--out", str(out)]) == 0
    configuration = Shards(out).describe()["configuration"]
    assert configuration["frames"] == 2 and configuration["jpeg"] == 90
    assert configuration["source"]["focal_px"] == 650.0
    recipe.write_text("rot: x\n")
    with pytest.raises(SystemExit):
        main(["rgb-thermal", "--config", str(recipe), "--out", str(out)])
    assert "did you mean --root?" in capsys.readouterr().err


def test_several_sources_are_one_after_the_other(pairs, street_shards, tmp_path, capsys):
    from lemumo_core.cli.prepare import main

    out = tmp_path / "shards"
    data = ["--data", str(street_shards), f"rgb-thermal,root={pairs},focal_px=650"]
    options = ["--out", str(out), "--frames", "16", "--workers", "1"]
    assert main([*data, *options]) == 0
    found, street = Shards(out), Shards(street_shards)
    assert [found[i].stamp_ns for i in (0, 13)] == [street[i].stamp_ns for i in (0, 13)]
    assert found[15].camera.fx == 650 and found[15].image.shape == (400, 600, 3)
    assert main([*data, *options]) == 0 and "were there already" in capsys.readouterr().out
    assert main([f"{data[0]}", f"{data[1]},weight=2", *options]) == 1
    assert "has a weight, which only training takes" in capsys.readouterr().err


def test_stats_tell_what_is_there(uninterrupted, tmp_path, capsys):
    from lemumo_core.cli.prepare import main

    assert main(["stats", str(uninterrupted), "--out", str(tmp_path), "--tiles", "5"]) == 0
    found = json.loads((tmp_path / "stats.json").read_text())
    assert found["cameras"] == {"visible": FRAMES}
    assert found["companions"] == {"thermal": FRAMES}
    assert (found["duplicate_stamps"], found["duplicate_images"]) == (0, 0)
    assert found["last_stamp_ns"] - found["first_stamp_ns"] == (FRAMES - 1) * 500_000_000
    picture = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert picture.shape == (2 * 2 * 320, 4 * 480, 3)
    assert f"{FRAMES}, 11.5 s" in capsys.readouterr().out
