"""Index the messages of a bag in one pass, so that any frame can be read alone.

Of each message only its header stamp is parsed. Indices are cached in ``bags`` of
``cache_folder()``, one small file a bag, rebuilt when a file of the bag changes.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lemumo_core.bags.cameras import camera_name, cameras_of, takes_several
from lemumo_core.bags.index_cache import BagIndex, cache_file, read_cache, write_cache
from lemumo_core.bags.metadata import BAG_SUFFIXES, METADATA, bag_stem
from lemumo_core.bags.missing_companion import describe_missing_companion
from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_core.bags.recovery import sound_files
from lemumo_core.bags.topics import PIXEL_TRUTH, TopicSelection, color_cameras, find_roles
from lemumo_core.bags.video import key_rows, packet_is_key
from lemumo_core.faults import Fault
from lemumo_core.files import uri_cure
from lemumo_core.messages.stamps import frame_of_cdr, stamp_of_cdr
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.messages.video import VIDEO_TYPES
from lemumo_core.progress import track
from lemumo_core.wording import count_of

log = logging.getLogger(__name__)

TF_STATIC = "/tf_static"
STAMP, LOG, ORDINAL = 0, 1, 2
"""Columns of an index: header stamp (ns), log time (ns), and the number of the message among those
of its topic with the same log time."""

STAMP_END = 12
"""Bytes of CDR encapsulation and header stamp, in which repeated CameraInfos differ."""


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
            raise FileNotFoundError(f"there is no bag at {given}{uri_cure(given)}")
        bags = _bags_below(root) if root.is_dir() else [(root,)]
        if not bags:
            raise FileNotFoundError(f"{given} holds no bag: no .mcap, .db3 or .bag file")
        found += bags
    if not found:
        raise FileNotFoundError("no bag given")
    return found


def load_indices(files: tuple[Path, ...], selection: TopicSelection) -> list[BagIndex]:
    """Return the index of each camera of a bag: the cached ones, else new, then cached ones.

    Of a damaged bag, what can be read is indexed; recovered copies lie beside the cached indices.

    Args:
        files: of the bag.
        selection: its topics; of one camera or, as ``takes_several`` has it, of several.

    Raises:
        Fault, ImportError, FileNotFoundError: as ``BagReader``, ``cameras_of`` and ``find_roles``,
            naming the bag.
    """
    cache = cache_file(files, selection)
    indices = read_cache(cache)
    if indices is None:
        with _named(files[0]):
            indices = _build_sound(files, selection, cache.with_suffix(""))
        write_cache(cache, indices)
    for name, words in dict.fromkeys((one.name, words) for one in indices for words in one.lost):
        log.warning("%s: %s", name, words)
    return indices


def index_recovered(
    bag: Path, files: Sequence[Path], lost: Sequence[str], selection: TopicSelection
) -> list[BagIndex]:
    """Return the index of each camera of a bag that ``sound_files`` recovered; nothing is cached.

    Args:
        bag: its path, for messages.
        files: what is left of it.
        lost: a message for each loss.
        selection: its topics; as for ``load_indices``.

    Raises:
        Fault: as ``load_indices``.
    """
    with _named(bag):
        return _build_each(str(bag), tuple(files), list(lost), selection)


def message_stamp(raw: RawMessage) -> int:
    """Return the header stamp (ns) of a message; where it has none, or 0, its log time."""
    try:
        return stamp_of_cdr(raw.data) or raw.stamp_ns
    except Fault:
        return raw.stamp_ns


@contextmanager
def _named(bag: Path) -> Iterator[None]:
    """Name the bag in the faults of what is done inside."""
    try:
        yield
    except Fault as fault:
        if str(bag) in str(fault):
            raise
        raise Fault(fault.reason, f"{bag}: {fault}") from fault


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


def _build_sound(
    files: tuple[Path, ...], selection: TopicSelection, recovered: Path
) -> list[BagIndex]:
    """Index what can be read of a bag.

    Args:
        files: of the bag.
        selection: its topics.
        recovered: folder for recovered copies, which is made where there are any.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for suspect in (False, True):
            sound, lost = sound_files(files, Path(scratch), suspect)
            try:
                indices = _build_each(str(files[0]), tuple(sound), lost, selection)
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
    return [replace(index, files=tuple(kept)) for index in indices]


def _build_each(
    name: str, files: tuple[Path, ...], lost: list[str], selection: TopicSelection
) -> list[BagIndex]:
    """Index each camera."""
    if not takes_several(selection.image):
        return [_build(name, files, lost, selection)]
    with BagReader(files) as reader:
        cameras = cameras_of(reader, str(selection.image))
    return [
        replace(_build(name, files, lost, replace(selection, image=topic)), camera=camera)
        for camera, topic in cameras.items()
    ]


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
        camera_frames = {topic.frame_id for topic in color_cameras(reader)}
        own_frame = frame_ids[topics["image"]]
        several = len(camera_frames) > 1
        of_a_camera = {topics[role] for role in PIXEL_TRUTH if several and role in topics}
        unnamed: Counter[str] = Counter()
        read = {*topics.values(), *({TF_STATIC} & counts.keys())}
        total = sum(counts[topic] for topic in read)
        transforms = TransformBuffer()
        found = {topic: array("q") for topic in read}
        last: dict[str, tuple[int, int]] = {}
        infos: dict[str, bytes] = {}
        unstamped: Counter[str] = Counter()
        is_key: list[bool] = []
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
            if raw.topic in of_a_camera:
                frame_id = frame_of_cdr(raw.data)
                unnamed[raw.topic] += frame_id not in camera_frames
                if frame_id != own_frame:
                    continue
            if raw.type.endswith("/CameraInfo"):
                if infos.get(raw.topic) == raw.data[STAMP_END:]:
                    continue
                infos[raw.topic] = raw.data[STAMP_END:]
            found[raw.topic].extend((message_stamp(raw), raw.stamp_ns, ordinal))
            if raw.topic == topics["image"] and raw.type in VIDEO_TYPES:
                is_key.append(packet_is_key(reader, raw))
            unstamped[raw.topic] += raw.data[4:STAMP_END] == bytes(STAMP_END - 4)
    for topic, count in sorted((+unstamped).items()):
        log.warning(
            "%s: %d messages of %s have no header stamp; the times at which they were recorded "
            "stand in, which are late by the transport's delay",
            *(name, count, topic),
        )
    for topic, count in sorted((+unnamed).items()):
        unused = count_of(count, f"message of {topic} is", f"messages of {topic} are")
        why = f"frame_id names none of the bag's cameras; is it {own_frame}?"
        lost = [*lost, f"{unused} not used: {why}"]
    messages = {}
    for role, topic in topics.items():
        rows = np.array(found[topic], np.int64).reshape(-1, 3)
        messages[role] = rows[np.argsort(rows[:, LOG], kind="stable")]
    keys = key_rows(is_key)
    if early := int((keys < 0).sum()):
        topic = topics["image"]
        words = count_of(early, f"image of {topic} comes", f"images of {topic} come")
        lost = [*lost, f"{words} before its first key frame"]
        keys, messages["image"] = keys[early:] - early, messages["image"][early:]
    return BagIndex(
        name,
        camera_name(topics["image"]),
        files,
        tuple(lost),
        companion,
        topics,
        messages,
        {role: frame_ids[topic] for role, topic in topics.items()},
        transforms.edges(),
        keys,
    )
