"""The profile is selected, and the user's own choice is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lemumo_ros.transport import VARIABLES, select_transport


@pytest.mark.parametrize(("distro", "count"), [("kilted", 1), ("humble", 2)])
def test_our_profile_is_selected(monkeypatch, distro, count) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROS_DISTRO", distro)
    select_transport()
    chosen = [os.environ[name] for name in VARIABLES if name in os.environ]
    assert len(chosen) == count
    assert all(Path(path).name == "fastdds.xml" and Path(path).is_file() for path in chosen)
    for name in VARIABLES:
        os.environ.pop(name, None)


@pytest.mark.parametrize("name", VARIABLES)
def test_the_users_choice_stands(monkeypatch, name) -> None:
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "/mine.xml")
    select_transport()
    assert [os.environ.get(n) for n in VARIABLES if n in os.environ] == ["/mine.xml"]
