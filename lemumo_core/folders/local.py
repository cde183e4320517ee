"""Folders of this machine, or of a file system that hosts share."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lemumo_core.files import (
    check_output,
    disk_errors_named,
    put_in_place,
    remove_unfinished,
    unfinished_folder,
    whole_file,
)
from lemumo_core.folders.folder import Folder


class LocalFolder(Folder):
    """A folder of this machine, or of a file system that hosts share."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def check(self, holds: str | None = None, overwrite: bool = False) -> None:
        """See ``Folder``."""
        check_output(self.path, holds, overwrite)

    def create(self) -> None:
        """See ``Folder``."""
        with disk_errors_named(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.path)

    def exists(self) -> bool:
        """See ``Folder``."""
        return self.path.is_dir()

    def names(self) -> set[str]:
        """See ``Folder``."""
        return {one.name for one in self.path.iterdir()} if self.path.is_dir() else set()

    def has(self, name: str) -> bool:
        """See ``Folder``."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """See ``Folder``."""
        return (self.path / name).read_bytes()

    def open(self, name: str) -> Any:
        """See ``Folder``; the file is memory-mapped."""
        import pyarrow as pa

        return pa.memory_map(str(self.path / name))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ``Folder``."""
        with whole_file(self.path / name) as file:
            yield file

    def delete(self, name: str) -> None:
        """See ``Folder``."""
        (self.path / name).unlink()

    def remove(self) -> None:
        """See ``Folder``."""
        shutil.rmtree(self.path)

    def begin(self) -> Path:
        """See ``Folder``."""
        return unfinished_folder(self.path)

    def put(self, filled: Path, last: str) -> None:
        """See ``Folder``."""
        put_in_place(filled, self.path)

    @contextmanager
    def mirror(self, names: Iterable[str] = ()) -> Iterator[Path]:
        """See ``Folder``; it is the folder itself."""
        with disk_errors_named(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            yield self.path
