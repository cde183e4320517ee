"""Bags with names, under which their results lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.metadata import bag_stem


@dataclass(frozen=True)
class Bag:
    """A bag: its name, unique among those that are worked on together, and its files."""

    name: str
    files: tuple[Path, ...]

    def fingerprint(self) -> str:
        """Return the path of a bag and a hash of its files' names, sizes and times."""
        parts = [
            (str(part), part.stat().st_size, part.stat().st_mtime_ns)
            for file in self.files
            for part in (sorted(file.iterdir()) if file.is_dir() else [file])
        ]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        return f"{self.files[0]} ({digest})"


def named_bags(path: str | Path | Sequence[str | Path]) -> list[Bag]:
    """Return the bags at a path, or at several, as ``find_bags`` finds them.

    A bag is named after its folder or file and the folders between it and the path, so that bags
    which are added later do not rename others: ``day1/drive.mcap`` is ``day1_drive``. Where two
    names are alike all the same, the later ones are numbered.

    Raises:
        FileNotFoundError: as ``find_bags``.
    """
    bags: list[Bag] = []
    taken: set[str] = set()
    for given in [path] if isinstance(path, str | Path) else path:
        root = Path(os.path.abspath(given))
        for files in find_bags(given):
            first = files[0]
            above = first.relative_to(root).parts[:-1]
            stem = "_".join([*above, first.name if first.is_dir() else bag_stem(first)])
            name, number = stem, 1
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name)
            bags.append(Bag(name, files))
    return bags
