"""DDS of one test process, which hears no other."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import tempfile
from pathlib import Path
from typing import Any

from tests.helpers.paths import ROOT


@functools.cache
def free_domain() -> int:
    """A ROS domain that no other test process on this machine has, kept to this one's end."""
    for domain in range(1, 40):
        file = (Path(tempfile.gettempdir()) / f"lemumo_ros_domain_{domain}").open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.append(file)
            return domain
        file.close()
    raise RuntimeError("all ROS domains are taken by tests")


_held: list[Any] = []


def isolate_dds(monkeypatch: Any) -> None:
    """This machine only, a domain of this test process, our transports."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
