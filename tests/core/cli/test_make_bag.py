"""``lemumo make-bag`` takes a source with its own options, and names mistakes."""

from __future__ import annotations

import pytest

pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.cli.main import main


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
