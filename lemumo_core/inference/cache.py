"""Cache folder for what is made once per machine, with locks.

It holds engines, timing caches and the choice of a backend.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.files import CACHE_VARIABLE, write_whole

POLL_S = 0.2


def write_cached(path: Path, data: bytes | memoryview) -> None:
    """Write a file as ``whole_file``.

    Raises:
        Fault: ``cache`` where the folder cannot be written or is full; nothing is left behind.
    """
    with _explained(path.parent):
        write_whole(path, data)


@contextlib.contextmanager
def locked(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold an exclusive lock on ``path`` + ``.lock`` across processes; a dead holder frees it.

    Yields:
        Whether another process held it in between: look again at what it may have made.

    Raises:
        Fault: ``cache`` as ``write_cached``, or if it is not free after ``wait_s`` seconds.
    """
    lock = path.with_name(f"{path.name}.lock")
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    with file:
        waited = False
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = True
            if time.monotonic() > end:
                raise Fault("cache", f"{lock} is still held by another build after {wait_s:.0f} s")
            time.sleep(POLL_S)
        yield waited


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "is full" if full else f"cannot be written ({error.strerror})"
        raise Fault(
            "cache",
            f"the cache folder {folder} {problem}: free some space, or set {CACHE_VARIABLE} to "
            "another folder",
        ) from error
