"""The node's command line is checked before ROS reads it."""

from __future__ import annotations

import pytest

from lemumo_ros.command_line import check_words
from lemumo_ros.parameters import Parameters, parameter_fields


def test_a_topic_that_the_shell_changed_is_named(monkeypatch) -> None:
    """Else the node waits for ever, on a topic that was never renamed."""
    monkeypatch.setenv("HOME", "/home/me")
    words = ["-p", "model:=/home/me/input/model", "-r", "~/input/image:=/camera/image_raw"]
    check_words([*words, "-r", "/home/me/input:=/x", "/home/me/input/drive.mcap"])
    with pytest.raises(SystemExit, match="quote it, -r '~/input/image:=/camera/image_raw'"):
        check_words(["-r", "/home/me/input/image:=/camera/image_raw"])


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_parameter_and_starts_nothing(word, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        check_words([word])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(f"  {entry.name}" in shown for entry in parameter_fields(Parameters))
