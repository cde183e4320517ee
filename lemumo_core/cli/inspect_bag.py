"""Description of a bag, and of what replay and training would take of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lemumo_core.bags.cameras import ALL
from lemumo_core.bags.index import LOG, STAMP, BagIndex, index_recovered, load_indices
from lemumo_core.bags.matching import Session
from lemumo_core.bags.open_bag import OpenBag
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import TopicSelection, color_cameras
from lemumo_core.evaluation.tables import Table
from lemumo_core.faults import Fault
from lemumo_core.wording import signed

TOLERANCE_NS = 60_000_000
"""Between image and companion, as ``lemumo replay`` and the source ``bags`` have it."""


def topic_table(name: Path, files: Sequence[Path]) -> Table:
    """Return the topics of a bag with type, frame, number of messages and mean rate.

    Args:
        name: of the bag, for the caption.
        files: of it, recovered where necessary.

    Raises:
        Fault: as ``BagReader``.
    """
    with BagReader(files) as reader:
        seconds = (reader.end_ns - reader.start_ns) / 1e9
        rows: list[tuple[str, ...]] = [
            (t.name, t.type, str(t.count), _rate(t.count, seconds), t.frame_id or "-")
            for t in reader.topics
        ]
    head = ("topic", "type", "messages", "Hz", "frame")
    return Table(f"{name}: {seconds:.1f} s", head, rows)


def selection_lines(
    files: tuple[Path, ...],
    sound: Sequence[Path],
    lost: Sequence[str],
    selection: TopicSelection | None = None,
) -> list[str]:
    """Return what replay and training take of a bag, or the reason for which they take nothing.

    Of several cameras all are shown; with a LiDAR and a thermal camera, which replay chooses
    between by the model, both.

    Args:
        files: of the bag.
        sound: the same, recovered where necessary.
        lost: what could not be recovered.
        selection: topics to take; found where not given.

    Raises:
        Fault: ``damaged_bag`` where nothing can be read.
    """
    selection = selection or TopicSelection()
    try:
        indices = _indices(files, sound, lost, selection)
    except Fault as fault:
        if fault.reason == "ambiguous_companion":
            lines = []
            for companion in ("lidar", "thermal"):
                chosen = replace(selection, companion=companion)
                found = selection_lines(files, sound, lost, chosen)
                lines += [f"with a model for {companion}:", *found]
            return lines
        if fault.reason == "ambiguous_topics" and _has_several_cameras(sound, selection):
            found = selection_lines(files, sound, lost, replace(selection, image=ALL))
            return ["with --image all, or the topic of one of the cameras:", *found]
        if fault.reason == "damaged_bag":
            raise
        return [f"nothing can be taken: {fault}"]
    lines = []
    for index in indices:
        lines += [f"camera {index.camera}:"] if len(indices) > 1 else []
        lines += _lines_of(index)
    return lines


def _indices(
    files: tuple[Path, ...], sound: Sequence[Path], lost: Sequence[str], selection: TopicSelection
) -> list[BagIndex]:
    """Index a bag, without recovering a second time what ``sound`` holds."""
    try:
        if list(sound) != list(files):
            return index_recovered(files[0], sound, lost, selection)
    except Fault as fault:
        if fault.reason != "damaged_bag":  # else what was thought sound is not
            raise
    return load_indices(files, selection)


def _has_several_cameras(files: Sequence[Path], selection: TopicSelection) -> bool:
    with BagReader(files) as reader:
        return selection.image is None and len(color_cameras(reader)) > 1


def _rate(count: int, seconds: float) -> str:
    return f"{(count - 1) / seconds:.1f}" if count > 1 and seconds > 0 else "-"


def _lines_of(index: BagIndex) -> list[str]:
    session = Session(index, TOLERANCE_NS)
    lines = [f"{role:13} {topic}" for role, topic in index.topics.items()]
    bag = OpenBag(index, "auto")
    try:
        lines.append(f"calibration   {_camera_text(bag, 'image')}")
        if index.companion:
            lines += [f"pairs         {_pairs_text(session)}", f"extrinsics    {_tf_text(bag)}"]
        else:
            lines.append("pairs         no LiDAR or thermal topic: results are of the camera alone")
        if index.companion == "thermal":
            lines.append(f"thermal       {_camera_text(bag, 'companion')}")
    finally:
        bag.close()
    return lines


def _camera_text(bag: OpenBag, role: str) -> str:
    rows = bag.index.messages[role]
    if not len(rows):
        return f"none: {bag.index.topics[role]} is empty"
    try:
        camera = bag.camera(role, int(rows[0, STAMP]), int(rows[0, LOG])).camera
    except Fault as fault:
        return f"none, so that every image is dropped: {fault}"
    return f"{camera.width}x{camera.height} pixels, fx {camera.fx:.1f}, fy {camera.fy:.1f}"


def _pairs_text(session: Session) -> str:
    index, matches = session.index, session.matches["companion"]
    paired = matches >= 0
    text = (
        f"{paired.sum()} of {len(matches)} images have a {index.companion} message within "
        f"{TOLERANCE_NS / 1e6:.0f} ms"
    )
    stamps = index.messages["image"][:, STAMP]
    companions = np.sort(index.messages["companion"][:, STAMP])
    if not len(companions) or not len(stamps):
        return text
    if paired.any():
        offsets_ms = (index.messages["companion"][matches, STAMP] - stamps)[paired] / 1e6
        return f"{text}, at {signed(float(np.median(offsets_ms)), '.1f')} ms in the median"
    apart_s = signed((companions[0] - stamps.min()) / 1e9, ".3f")
    return f"{text}: its first stamp is {apart_s} s from the camera's; are the clocks one?"


def _tf_text(bag: OpenBag) -> str:
    target, source = bag.index.frame_ids["image"], bag.index.frame_ids["companion"]
    try:
        T_camera_companion = bag.transforms.lookup(target, source)
    except Fault as fault:
        return f"none on /tf_static: {fault}"
    x, y, z = T_camera_companion[:3, 3]
    return f"/tf_static has {source} in {target}: at ({x:.2f}, {y:.2f}, {z:.2f}) m"
