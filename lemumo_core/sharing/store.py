"""What holds one model package, and local folders as such."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

NO_REPOSITORY = "no_repository"
"""Reason of the fault of a store that does not exist, as far as one may see."""


class Store(Protocol):
    """A place that holds one package."""

    def fetch(self, name: str, path: Path) -> None:
        """Bring a file, or what is missing of it.

        Args:
            name: of a file of the package.
            path: where it is written; what an earlier, interrupted call left there is kept where
                the store can go on with it.

        Raises:
            FileNotFoundError: the store has no such file.
            Fault: ``no_access``; ``bad_source`` where it ends early, with what is left to go on.
        """
        ...

    def publish(self, folder: Path, names: Sequence[str]) -> None:
        """Write files of a folder, in this order, so that the last one makes the package whole.

        Raises:
            Fault: ``no_access``; ``bad_target`` where the store cannot be written.
        """
        ...


class FolderStore:
    """A package in a local folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fetch(self, name: str, path: Path) -> None:
        """See ``Store``."""
        if not (self.folder / name).is_file():
            raise FileNotFoundError(f"{self.folder} has no {name}")
        shutil.copyfile(self.folder / name, path)

    def publish(self, folder: Path, names: Sequence[str]) -> None:
        """See ``Store``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(folder / name, self.folder / name)
