"""``lemumo make-bag`` takes a source with its own options, and names mistakes."""

from __future__ import annotations

import errno
import os
import signal

import pytest

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.cli.main import main
from lemumo_core.data.sources.registry import SOURCES
from lemumo_core.frame import Frame
from tests.helpers.small_frames import small_frames

FULL = 0
"""In place of a signal: a disk that is full."""


def test_a_source_becomes_a_bag(shared_data, tmp_path, capsys) -> None:
    out = tmp_path / "bag"
    command = ["make-bag", "rgb-thermal", "--root", str(shared_data / "kaist_rgbt")]
    command += ["--out", str(out), "--storage", "sqlite3", "--limit", "2", "--jpeg"]
    assert main([*command, "--rate_hz", "4", "--focal-px=500"]) == 0
    with BagReader(out) as reader:
        assert find_topics(reader).thermal == "/thermal/image_raw"
        assert reader.first("/camera/image_raw/compressed") is not None
        assert reader.first("/camera/camera_info").k[0] == 500
        assert reader.end_ns - reader.start_ns == 250_000_000
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err


class Stopping:
    """Frames, the third of which comes with a signal or an error of the disk."""

    def __init__(self, number: int):
        self.number, self.frames = number, small_frames(5)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Frame:
        if index == 2 and self.number == FULL:
            raise OSError(errno.ENOSPC, "No space left on device")
        if index == 2:
            os.kill(os.getpid(), self.number)
        return self.frames[index]

    def describe(self) -> dict:
        return {"source": "stopping"}


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGINT, 130, "stopped by SIGINT"),
        (FULL, 1, "bag cannot be written: No space left on device; free space"),
    ],
)
def test_stopped_it_shows_how_far_it_came_and_leaves_no_half_bag(
    number, code, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(SOURCES, "stopping", f"{__name__}:Stopping")
    monkeypatch.setattr("lemumo_core.progress.LOG_INTERVAL_S", 0.0)
    out = tmp_path / "bag"
    assert main(["make-bag", "stopping", "--number", str(int(number)), "--out", str(out)]) == code
    shown = capsys.readouterr().err
    assert message in shown and "make-bag  2/5" in shown
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["kitti"], 2, "root"),
        (["kity", "--root", "x"], 1, "did you mean 'kitti'"),
        (["nuscenes", "--root", "x", "--camera", "CAM_FRONT"], 2, "did you mean --cameras?"),
        (["kitti", "--root", "no_such_folder"], 1, "no_such_folder"),
    ],
)
def test_mistakes_are_named(arguments, code, message, tmp_path, capsys) -> None:
    command = ["make-bag", *arguments, "--out", str(tmp_path / "bag")]
    try:
        assert main(command) == code
    except SystemExit as stopped:  # of the parser
        assert stopped.code == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bag").exists()
