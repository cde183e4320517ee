"""Files that appear whole or not at all, and the cache folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CACHE_VARIABLE = "LEMUMO_CACHE"


def cache_folder() -> Path:
    """Return ``$LEMUMO_CACHE``, or ``lemumo`` in the user's cache folder; it need not exist."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lemumo"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its place only when the block ends, even before a power cut.

    If the block raises, nothing has changed.

    Raises:
        OSError: the folder cannot be made or written, or is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # mkstemp's 0o600 would shut out the node's own user
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file as ``whole_file`` does."""
    with whole_file(path) as file:
        file.write(data)
