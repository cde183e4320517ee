"""Shared memory that killed processes left behind.

Fast DDS keeps the messages of each process in a segment of /dev/shm and frees it at the end of the
process, which a process that is killed does not reach. Nobody frees it later, so that a robot whose
nodes are killed now and then runs out of shared memory.
"""

from __future__ import annotations

import fcntl
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from lemumo_core.wording import count_of

log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")
OWNER_LOCK = re.compile(r"(?P<segment>(fastdds|fastrtps)_[0-9a-z]{16})_el")
"""Name of the file that the owner of a segment locks with flock(2) as long as it lives; Fast DDS 3
begins it with fastdds, Fast DDS 2 with fastrtps."""
MIN_AGE_S = 10.0
"""Younger files may belong to a process that has made one and not locked it yet."""


@dataclass(frozen=True)
class Removed:
    """Segments that were removed, and those that could not be.

    Attributes:
        names: segments that are gone.
        size_mb: memory that they held, MB.
        kept: dead segments of other users, which only they may remove.
    """

    names: tuple[str, ...]
    size_mb: float
    kept: tuple[str, ...]


def remove_dead_segments(folder: Path) -> Removed:
    """Remove the segments of Fast DDS whose owner has died, as ``fastdds shm clean`` does.

    A segment is dead when nobody holds the lock on its ``_el`` file. Dead ports stay: they are
    small, and the next process with their number takes them over.
    """
    names, kept, size = [], [], 0
    for lock in sorted(folder.glob("fast*_el")):
        match = OWNER_LOCK.fullmatch(lock.name)
        if match is None:
            continue
        segment = folder / match["segment"]
        try:
            with lock.open("rb") as file:
                if time.time() - lock.stat().st_mtime < MIN_AGE_S:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = segment.stat().st_blocks * 512 if segment.exists() else 0
                segment.unlink(missing_ok=True)
                lock.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # its owner lives, or another process removes it at this moment
        except PermissionError:
            kept.append(segment.name)
        else:
            names.append(segment.name)
            size += held
    return Removed(tuple(names), size / 1e6, tuple(kept))


def clean_shared_memory() -> None:
    """Remove dead segments and log what was removed. Call before ``rclpy.init``."""
    removed = remove_dead_segments(FOLDER)
    if removed.names:
        log.info(
            "removed %s of killed processes from %s, %.0f MB: %s",
            count_of(len(removed.names), "shared-memory segment"),
            FOLDER,
            removed.size_mb,
            ", ".join(removed.names),
        )
    if removed.kept:
        log.warning(
            "left %s of killed processes of another user in %s: run 'fastdds shm clean' as that "
            "user",
            count_of(len(removed.kept), "shared-memory segment"),
            FOLDER,
        )
