"""The folder for what is made once per machine: engines, timing caches, the choice of a backend."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lemumo_core.faults import Fault

VARIABLE = "LEMUMO_CACHE"
POLL_S = 0.2


def cache_folder() -> Path:
    """``$LEMUMO_CACHE``, or ``lemumo`` in the user's cache folder; it may not exist yet."""
    if own := os.environ.get(VARIABLE):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lemumo"


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut.

    Raises:
        Fault: ``cache`` where the folder cannot be written or is full; nothing is left behind.
    """
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            os.fchmod(handle, 0o644)  # mkstemp's 0o600 would shut out the node's own user
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


@contextlib.contextmanager
def locked(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold an exclusive lock on ``path`` + ``.lock`` across processes; a dead holder frees it.

    Yields:
        Whether another process held it in between: look again at what it may have made.

    Raises:
        Fault: ``cache`` as ``write_atomic``, or if it is not free after ``wait_s`` seconds.
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
            f"the cache folder {folder} {problem}: free some space, or set {VARIABLE} to another "
            "folder",
        ) from error
