"""Index the messages of a bag in one pass, so that any frame can be read alone.

Of each message only its header stamp is parsed. Indices are cached in ``bags`` of
``cache_folder()``, one small file a bag, rebuilt when a file of the bag changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lemumo_core.bags.metadata import BAG_SUFFIXES, METADATA, bag_stem
from lemumo_core.bags.missing_companion import describe_missing_companion
from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_core.bags.recovery import sound_files
from lemumo_core.bags.topics import TopicSelection, find_roles
from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder, whole_file
from lemumo_core.messages.stamps import stamp_of_cdr
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.progress import track

log = logging.getLogger(__name__)

VERSION = 3
"""Version of the cached files, which is part of their names."""

TF_STATIC = "/tf_static"
STAMP, LOG, ORDINAL = 0, 1, 2
"""Columns of an index: header stamp (ns), log time (ns), and the number of the message among those
of its topic with the same log time."""

STAMP_END = 12
"""Bytes of CDR encapsulation and header stamp, in which repeated CameraInfos differ."""


@dataclass(frozen=True, eq=False)
class BagIndex:
    """The index of one bag. Roles are those of ``find_roles``.

    Attributes:
        name: path of the bag, for messages.
        files: files to open, as ``BagReader`` opens them; recovered copies of damaged ones.
        lost: a message for each loss: what cannot be read, or was passed over.
        companion: ``lidar``, ``thermal`` or None.
        topics: role to topic, for the roles that the bag has.
        messages: role to int64 (N, 3), see ``STAMP``; in order of log time. Of CameraInfos only
            those that differ from the one before.
        frame_ids: role to the frame of the first message.
        transforms: of /tf_static, as ``TransformBuffer.edges``.
    """

    name: str
    files: tuple[Path, ...]
    lost: tuple[str, ...]
    companion: str | None
    topics: dict[str, str]
    messages: dict[str, np.ndarray]
    frame_ids: dict[str, str]
    transforms: list[tuple[str, str, np.ndarray]]


def find_bags(path: str | Path | Sequence[str | Path]) -> list[tuple[Path, ...]]:
    """Return the bags at a path, in order of their names, each as the files of one ``BagReader``.

    A folder with ``metadata.yaml`` is a bag; other folders are searched at any depth. A bare file
    is a bag, but files that rosbag2 numbered from ``X_0`` on are one.

    Raises:
        FileNotFoundError: nothing is there, or a folder holds no bag.
    """
    found: list[tuple[Path, ...]] = []
    for given in [path] if isinstance(path, str | Path) else path:
        root = Path(os.path.abspath(given))
        if not root.exists():
            raise FileNotFoundError(f"there is no bag at {given}")
        bags = _bags_below(root) if root.is_dir() else [(root,)]
        if not bags:
            raise FileNotFoundError(f"{given} holds no bag: no .mcap, .db3 or .bag file")
        found += bags
    if not found:
        raise FileNotFoundError("no bag given")
    return found


def load_index(files: tuple[Path, ...], selection: TopicSelection) -> BagIndex:
    """Return the index of one bag: the cached one, else a new one, which is then cached.

    Of a damaged bag, what can be read is indexed; recovered copies lie beside the cached index.

    Raises:
        Fault, ImportError, FileNotFoundError: as ``BagReader`` and ``find_roles``, naming the bag.
    """
    cache = _cache_file(files, selection)
    index = _read_cache(cache)
    if index is None:
        try:
            index = _build_sound(files, selection, cache.with_suffix(""))
        except Fault as fault:
            if str(files[0]) in str(fault):
                raise
            raise Fault(fault.reason, f"{files[0]}: {fault}") from fault
        _write_cache(cache, index)
    for words in index.lost:
        log.warning("%s: %s", index.name, words)
    return index


def message_stamp(raw: RawMessage) -> int:
    """Return the header stamp (ns) of a message; where it has none, or 0, its log time."""
    try:
        return stamp_of_cdr(raw.data) or raw.stamp_ns
    except Fault:
        return raw.stamp_ns


def _bags_below(root: Path) -> list[tuple[Path, ...]]:
    found: list[tuple[Path, ...]] = []
    for folder, below, names in os.walk(root, followlinks=True):
        if METADATA in names:
            below.clear()
            found.append((Path(folder),))
            continue
        below[:] = [name for name in below if not name.startswith(".")]
        recordings: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
        for file in (Path(folder, name) for name in names if name.endswith(BAG_SUFFIXES)):
            stem = bag_stem(file)
            part = re.fullmatch(r"(.+)_(0|[1-9]\d*)", stem)
            key, number = (part[1] + "_", int(part[2])) if part else (stem, 0)
            recordings[key, file.name.removeprefix(stem)][number] = file
        for parts in recordings.values():
            numbers = sorted(parts)
            whole = numbers == list(range(len(numbers)))
            in_order = tuple(parts[number] for number in numbers)
            found += [in_order] if whole else [(file,) for file in in_order]
    return sorted(found)


def _build_sound(files: tuple[Path, ...], selection: TopicSelection, recovered: Path) -> BagIndex:
    """Index what can be read of a bag.

    Args:
        files: of the bag.
        selection: its topics.
        recovered: folder for recovered copies, which is made where there are any.
    """
    name = str(files[0])
    with tempfile.TemporaryDirectory() as scratch:
        for suspect in (False, True):
            sound, lost = sound_files(files, Path(scratch), suspect)
            try:
                index = _build(name, tuple(sound), lost, selection)
                break
            except Fault as fault:
                if fault.reason != "damaged_bag" or suspect:
                    raise
        kept = []
        for file in sound:
            if file.parent == Path(scratch):
                recovered.mkdir(parents=True, exist_ok=True)
                file = Path(shutil.move(file, recovered / file.name))
            kept.append(file)
    return replace(index, files=tuple(kept))


def _build(
    name: str, files: tuple[Path, ...], lost: list[str], selection: TopicSelection
) -> BagIndex:
    with BagReader(files) as reader:
        companion, topics = find_roles(reader, selection)
        if companion is None:
            passed_over = describe_missing_companion(reader, "lidar", selection.points)
            lost = [*lost, *([passed_over] if passed_over else [])]
        frame_ids = {topic.name: topic.frame_id for topic in reader.topics}
        counts = {topic.name: topic.count for topic in reader.topics}
        read = {*topics.values(), *({TF_STATIC} & counts.keys())}
        total = sum(counts[topic] for topic in read)
        transforms = TransformBuffer()
        found = {topic: array("q") for topic in read}
        last: dict[str, tuple[int, int]] = {}
        infos: dict[str, bytes] = {}
        unstamped: Counter[str] = Counter()
        for raw in track(reader.raw_messages(read), f"index {Path(name).name}", total):
            if raw.topic == TF_STATIC:
                try:
                    transforms.add(reader.deserialize(raw.data, raw.type))
                except Fault as fault:
                    log.warning("%s: %s", name, fault)
                continue
            before, ordinal = last.get(raw.topic, (None, 0))
            ordinal = ordinal + 1 if before == raw.stamp_ns else 0
            last[raw.topic] = raw.stamp_ns, ordinal
            if raw.type.endswith("/CameraInfo"):
                if infos.get(raw.topic) == raw.data[STAMP_END:]:
                    continue
                infos[raw.topic] = raw.data[STAMP_END:]
            found[raw.topic].extend((message_stamp(raw), raw.stamp_ns, ordinal))
            unstamped[raw.topic] += raw.data[4:STAMP_END] == bytes(STAMP_END - 4)
    for topic, count in sorted((+unstamped).items()):
        log.warning(
            "%s: %d messages of %s have no header stamp; the times at which they were recorded "
            "stand in, which are late by the transport's delay",
            *(name, count, topic),
        )
    messages = {}
    for role, topic in topics.items():
        rows = np.array(found[topic], np.int64).reshape(-1, 3)
        messages[role] = rows[np.argsort(rows[:, LOG], kind="stable")]
    return BagIndex(
        name,
        files,
        tuple(lost),
        companion,
        topics,
        messages,
        {role: frame_ids[topic] for role, topic in topics.items()},
        transforms.edges(),
    )


def _cache_file(files: tuple[Path, ...], selection: TopicSelection) -> Path:
    parts: list[tuple[str, int, int]] = []
    for file in files:
        for part in sorted(p for p in file.iterdir() if p.is_file()) if file.is_dir() else [file]:
            stat = part.stat()
            parts.append((str(part), stat.st_size, stat.st_mtime_ns))
    key = json.dumps([VERSION, parts, asdict(selection)])
    return cache_folder() / "bags" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def _read_cache(path: Path) -> BagIndex | None:
    """Return the cached index, or None where there is none that can be used."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            messages = {role: stored[role] for role in about["topics"]}
            edges = [
                (parent, child, T)
                for (parent, child), T in zip(about["edges"], stored["T"], strict=True)
            ]
        files = tuple(Path(file) for file in about["files"])
        if not all(file.exists() for file in files):
            return None
        return BagIndex(
            *(about["name"], files, tuple(about["lost"]), about["companion"]),
            *(about["topics"], messages, about["frame_ids"], edges),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        log.warning("the cached index %s is not readable: %s", path, error)
        return None


def _write_cache(path: Path, index: BagIndex) -> None:
    about = {
        "name": index.name,
        "files": [str(file) for file in index.files],
        "lost": list(index.lost),
        "companion": index.companion,
        "topics": index.topics,
        "frame_ids": index.frame_ids,
        "edges": [[parent, child] for parent, child, _ in index.transforms],
    }
    T = np.array([T for _, _, T in index.transforms], np.float64).reshape(-1, 4, 4)
    try:
        with whole_file(path) as file:
            np.savez(file, about=np.array(json.dumps(about)), T=T, **index.messages)  # type: ignore[arg-type]
    except OSError as error:
        log.warning("the index of %s cannot be cached: %s", index.name, error)
