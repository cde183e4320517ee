"""Indices of bags as files of the cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.topics import TopicSelection
from lemumo_core.files import cache_folder, whole_file

log = logging.getLogger(__name__)

VERSION = 7
"""Version of the cached files, which is part of their names."""


@dataclass(frozen=True, eq=False)
class BagIndex:
    """The index of one camera of a bag. Roles are those of ``find_roles``.

    Attributes:
        name: path of the bag, for messages.
        camera: name of the camera.
        files: files to open, as ``BagReader`` opens them; recovered copies of damaged ones.
        lost: a message for each loss: what cannot be read, or was passed over.
        companion: ``lidar``, ``thermal`` or None.
        topics: role to topic, for the roles that the bag has.
        messages: role to int64 (N, 3), see ``STAMP``; in order of log time. Of CameraInfos only
            those that differ from the one before.
        frame_ids: role to the frame of the first message.
        transforms: of /tf_static, as ``TransformBuffer.edges``.
        keys: int64 (N,), where the images are a video: of each, the number of the key frame from
            which on it is decoded; else empty.
    """

    name: str
    camera: str
    files: tuple[Path, ...]
    lost: tuple[str, ...]
    companion: str | None
    topics: dict[str, str]
    messages: dict[str, np.ndarray]
    frame_ids: dict[str, str]
    transforms: list[tuple[str, str, np.ndarray]]
    keys: np.ndarray


def cache_file(files: tuple[Path, ...], selection: TopicSelection) -> Path:
    """Return the cached file of a bag, which is another one once a file of the bag changes."""
    parts: list[tuple[str, int, int]] = []
    for file in files:
        for part in sorted(p for p in file.iterdir() if p.is_file()) if file.is_dir() else [file]:
            stat = part.stat()
            parts.append((str(part), stat.st_size, stat.st_mtime_ns))
    key = json.dumps([VERSION, parts, asdict(selection)])
    return cache_folder() / "bags" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def read_cache(path: Path) -> list[BagIndex] | None:
    """Return the cached indices, or None where there are none that can be used."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            found = [_from_arrays(one, f"{i}/", stored) for i, one in enumerate(about)]
        if not all(file.exists() for index in found for file in index.files):
            return None
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        log.warning("the cached index %s is not readable: %s", path, error)
        return None


def write_cache(path: Path, indices: Sequence[BagIndex]) -> None:
    """Cache the indices of a bag; a folder that cannot be written to is warned of."""
    about = [
        {
            "name": index.name,
            "camera": index.camera,
            "files": [str(file) for file in index.files],
            "lost": list(index.lost),
            "companion": index.companion,
            "topics": index.topics,
            "frame_ids": index.frame_ids,
            "edges": [[parent, child] for parent, child, _ in index.transforms],
        }
        for index in indices
    ]
    arrays = {"about": np.array(json.dumps(about))}
    for i, index in enumerate(indices):
        T = np.array([T for _, _, T in index.transforms], np.float64).reshape(-1, 4, 4)
        mine = {**index.messages, "T": T, "keys": index.keys}
        arrays |= {f"{i}/{name}": array for name, array in mine.items()}
    try:
        with whole_file(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        log.warning("the index of %s cannot be cached: %s", indices[0].name, error)


def _from_arrays(about: Mapping[str, Any], prefix: str, stored: Mapping[str, Any]) -> BagIndex:
    """Return the index whose arrays have this prefix."""
    edges = zip(about["edges"], stored[f"{prefix}T"], strict=True)
    return BagIndex(
        name=about["name"],
        camera=about["camera"],
        files=tuple(Path(file) for file in about["files"]),
        lost=tuple(about["lost"]),
        companion=about["companion"],
        topics=about["topics"],
        messages={role: stored[f"{prefix}{role}"] for role in about["topics"]},
        frame_ids=about["frame_ids"],
        transforms=[(parent, child, T) for (parent, child), T in edges],
        keys=stored[f"{prefix}keys"],
    )
