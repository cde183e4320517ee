"""Shared-memory segments of Fast DDS that a process owns."""

from __future__ import annotations

import os
from pathlib import Path

from lemumo_ros.shared_memory import OWNER_LOCK


def segment_locks(pid: int) -> list[Path]:
    """The files that a process holds open because it owns their segments."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return [Path(link) for link in links if OWNER_LOCK.fullmatch(os.path.basename(link))]


def segment_of(lock: Path) -> Path:
    """The segment beside such a file."""
    return lock.with_name(lock.name.removesuffix("_el"))
