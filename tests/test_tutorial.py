"""The tutorial works: each of its commands is run, in its order, on a bag without labels."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core.model.config import SIZES
from tests.helpers import doc_commands
from tests.helpers.paths import ROOT
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.small_frames import small_frames
from tests.helpers.waiting import LIMIT_S

TUTORIAL = ROOT / "docs" / "tutorial.md"
SMALLER = {
    "prepare": {"workers": 1},
    "replay": {"backend": "onnxruntime:fp32"},
    "pretrain": doc_commands.SHORT
    | {"model.size": "nano", "model.height": 48, "model.width": 80, "log.probe_steps": 1}
    | {"method.views.global_size": "[32, 32]", "method.views.local_size": "[16, 32]"},
    "finetune": doc_commands.SHORT | {"data_options.frames": 4, "data_options.frames_per_drive": 4},
}
"""Options that are added to a command, so that it takes seconds."""


def commands() -> list[list[str]]:
    blocks = doc_commands.code_blocks(TUTORIAL.read_text())
    return [words for block in blocks for words in doc_commands.commands(block)]


@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial(tiny_package, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag

    write_bag([replace(frame, labels=None) for frame in small_frames(4)], tmp_path / "bag")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lemumo-tiny").symlink_to(tiny_package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SIZES, "nano", (48, 3, 2))
    *offline, node, live, launch = commands()
    assert [words[1] for words in offline] == [
        *("inspect", "replay", "prepare", "pretrain", "finetune", "export", "replay", "compare")
    ]
    for words in offline:
        doc_commands.run(words, SMALLER.get(words[1], {}))
    for page in ("first", "second", "comparison"):
        assert (tmp_path / "out" / page / "index.html").is_file()
    assert (node[1], live[-1], launch[:2]) == ("node", "--live", ["ros2", "launch"])
    plays_to_the_node(node, live, monkeypatch)


def plays_to_the_node(node: list[str], live: list[str], monkeypatch) -> None:
    """Run the two commands of the robot as processes; launch is tried with a ROS of its own."""
    pytest.importorskip("rclpy", reason="the node needs ROS 2, or: pip install '.[ros]'")
    isolate_dds(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    program = [sys.executable, "-m", "lemumo_core.cli.main"]
    # As it is printed, for the shell changes words that are not quoted, such as a leading ~.
    printed = re.search(r"^lemumo (node .*?)(?<!\\)$", TUTORIAL.read_text(), re.M | re.S).group(1)
    assert shlex.split(printed.replace("\\\n", " ")) == node[1:]
    line = f"exec {shlex.join(program)} {printed}"
    log = Path("node.log")
    with log.open("w") as file:
        process = subprocess.Popen(["bash", "-c", line], stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + LIMIT_S
        while "in one inference" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        played = subprocess.run([*program, *live[1:-2], "bag", "--live"], timeout=LIMIT_S)
        assert played.returncode == 0
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0, log.read_text()
