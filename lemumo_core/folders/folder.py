"""The interface of a folder of outputs, on a disk or in a bucket."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeVar

AT_ONCE = 16
"""Requests to a bucket that wait for their answers together."""

T = TypeVar("T")
R = TypeVar("R")


class Folder(ABC):
    """A folder of outputs; ``folder / name`` is one in it, and its string names it to people."""

    @abstractmethod
    def __truediv__(self, name: str) -> Folder: ...

    @property
    def name(self) -> str:
        """Last part of its path."""
        return str(self).rpartition("/")[2]

    @abstractmethod
    def check(self, holds: str | None = None, overwrite: bool = False) -> None:
        """Check that it can be written, as ``files.check_output``.

        Raises:
            Fault: ``bad_output``, ``output_exists``.
        """

    @abstractmethod
    def create(self) -> None:
        """Make it, where it is not there, and clear away what killed processes left in it.

        Raises:
            Fault: ``bad_output``.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Return whether ``create`` was called, on whichever host."""

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of the files and folders in it; none where it does not exist."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return whether a file is in it."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file; None where there is none, or a damaged one."""
        try:
            return json.loads(self.read(name))
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
            return None

    @abstractmethod
    def open(self, name: str) -> Any:
        """Open a file to read parts of it, as ``pyarrow.NativeFile``.

        Raises:
            FileNotFoundError: there is none.
            ImportError: pyarrow is not installed.
        """

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file that is there only when the block has ended well."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        with self.writing(name) as file:
            file.write(data)

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file."""

    @abstractmethod
    def remove(self) -> None:
        """Delete it, with all that is in it."""

    @abstractmethod
    def begin(self) -> Path:
        """Make a local folder elsewhere, to be filled and then ``put`` in this one's place.

        Its parent is made for it alone, and is to be deleted where it is not put.
        """

    @abstractmethod
    def put(self, filled: Path, last: str) -> None:
        """Put a filled folder in this one's place, whose files are deleted.

        On a disk that is done at once. In a bucket it takes many requests, in which the marking
        file is empty.

        Args:
            filled: folder that ``begin`` made; it is gone afterwards.
            last: its file that marks it as whole.
        """

    @abstractmethod
    def mirror(self, names: Iterable[str] = ()) -> AbstractContextManager[Path]:
        """Give a local folder; what is written into it is in this one when the block ends well.

        Args:
            names: of the files that are read there, where they exist.
        """


def at_once(function: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
    """Return what a function that waits for a store makes of each item, some at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))
