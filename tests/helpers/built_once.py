"""Folders that are costly to fill, built once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return the folder of a name, which the first process that asks for it has built.

    Args:
        factory: the fixture ``tmp_path_factory``.
        name: of the folder, one for each kind of content. Nobody may change what is in it.
        build: fills the folder of the path that it is given, which does not exist yet.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own in the run's
        base = base.parent
    folder = base / "built_once" / name
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.parent / f"{name}.done"
        if not done.exists():
            build(folder)
            done.touch()
    return folder
