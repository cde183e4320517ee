"""Files of a folder in a bucket, copied whole to a local cache when first needed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lemumo_core.data.arrow import fs
from lemumo_core.files import as_uri, cache_folder, make_room, note_use, whole_file

SCHEMES = ("s3", "gs", "hdfs", "file")
"""Schemes that are known also with a single slash; with both, pyarrow says whether it knows one."""


def remote_address(folder: str) -> str | None:
    """Return the URI of a folder that is read here, also of one that lost a slash, or None."""
    uri = as_uri(folder)
    if uri and ("://" in folder or uri.partition(":")[0] in SCHEMES):
        return uri
    return None


def read_remote(uri: str, name: str) -> bytes:
    """Read one file of a folder at a URI.

    Raises:
        FileNotFoundError, OSError: as pyarrow's file system.
    """
    files, folder = fs.FileSystem.from_uri(uri)
    with files.open_input_stream(f"{folder}/{name}") as stream:
        data: bytes = stream.read()
    return data


class RemoteFolder:
    """A folder of files at a URI that pyarrow knows (s3, gs, hdfs, file).

    Several processes may share a cache: a file appears in it at once and whole.

    Args:
        uri: of the folder.
        version: what changes when its files do; copies of other versions are not used.
        cache: local folder; None for ``shards`` in ``cache_folder()``.
        cache_bytes: the copies of this URI that were not used for longest go when they would
            exceed it.
    """

    def __init__(self, uri: str, version: str, cache: str | Path | None, cache_bytes: int):
        self.uri, self.cache_bytes = uri.rstrip("/"), cache_bytes
        if cache is None:
            cache = cache_folder() / "shards"
        self.of_uri = Path(cache) / _digest(self.uri)
        self.folder = self.of_uri / _digest(version)

    def fetch(self, name: str, size: int) -> Path:
        """Return the local copy of a file; one of another size is replaced.

        Raises:
            OSError: the file is not there, is not ``size`` bytes, or does not fit on the disk.
        """
        copy = self.folder / name
        if copy.exists() and copy.stat().st_size == size:
            note_use(copy)
            return copy
        make_room(self.of_uri.glob("*/*"), self.cache_bytes - size)
        files, folder = fs.FileSystem.from_uri(self.uri)
        with whole_file(copy) as file:
            with files.open_input_stream(f"{folder}/{name}") as stream:
                shutil.copyfileobj(stream, file, 1 << 22)
            found = file.tell()
            if found != size:
                raise OSError(f"{self.uri}/{name} has {found} bytes; its index says {size}")
        return copy


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
