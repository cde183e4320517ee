"""Pictures of the results of two replays for the same images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.drawing import class_colors, draw_rectangles, write
from lemumo_core.faults import Fault
from lemumo_core.messages.images import image_to_rgb
from lemumo_core.messages.stamps import stamp_of_cdr
from lemumo_core.replay.output_folder import DETECTIONS, read_metrics
from lemumo_core.replay.summaries import sound_files_of

WIDTH = 640
"""Pixels that an image is drawn at."""


def result_pictures(
    outs: Sequence[Path], bag: str, stamps_ns: Sequence[int], recovered: RecoveredBag
) -> dict[int, list[np.ndarray]]:
    """Return a picture of the results of each replay, by image.

    They are the overlays that the replays drew, where all did, else the images of the bag with 2D
    boxes.

    Args:
        outs: output folders of the replays.
        bag: name of the bag in all of them, with that of the camera where there are several.
        stamps_ns: stamps of the images.
        recovered: reads the bag where it is damaged.

    Returns:
        Stamp to uint8 (H, W, 3) RGB pictures, one a replay; without the images that the bag does
        not hold any more.

    Raises:
        Fault, OSError: ``no_results`` of an earlier version; as ``BagReader``, where the bag is
            needed and is not to be read.
    """
    overlays = {
        stamp_ns: [out / bag / "overlays" / f"{stamp_ns}.png" for out in outs]
        for stamp_ns in stamps_ns
    }
    if all(file.is_file() for files in overlays.values() for file in files):
        return {stamp_ns: [_read(file) for file in files] for stamp_ns, files in overlays.items()}
    images = _images(read_metrics(outs[0])["bags"][bag], set(stamps_ns), recovered)
    found = [_detections(out / bag, set(images)) for out in outs]
    names = sorted({one["class"] for replay in found for ones in replay.values() for one in ones})
    colors = dict(zip(names, class_colors(len(names)), strict=True))
    return {
        stamp_ns: [_drawn(image, replay.get(stamp_ns, []), colors) for replay in found]
        for stamp_ns, image in images.items()
    }


def _read(file: Path) -> np.ndarray:
    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, file
    return picture[..., ::-1]


def _images(
    summary: dict[str, Any], stamps_ns: set[int], recovered: RecoveredBag
) -> dict[int, np.ndarray]:
    """Return images of a replayed bag, by stamp."""
    if "image" not in summary:
        raise Fault("no_results", "written by an earlier version, without the topic of the images")
    found: dict[int, np.ndarray] = {}
    with BagReader(sound_files_of(summary, recovered)) as reader:
        for raw in reader.raw_messages([summary["image"]]):
            if len(found) == len(stamps_ns):
                break
            if (stamp_ns := stamp_of_cdr(raw.data)) in stamps_ns:
                found[stamp_ns] = image_to_rgb(reader.deserialize(raw.data, raw.type))
    return found


def _detections(folder: Path, stamps_ns: set[int]) -> dict[int, list[dict[str, Any]]]:
    with (folder / DETECTIONS).open() as lines:
        records = [json.loads(line) for line in lines]
    return {r["stamp_ns"]: r["detections"] for r in records if r["stamp_ns"] in stamps_ns}


def _drawn(
    image: np.ndarray, detections: Sequence[dict[str, Any]], colors: dict[str, Any]
) -> np.ndarray:
    height, width = image.shape[:2]
    scale = WIDTH / width
    size = WIDTH, max(1, round(height * scale))
    picture = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    boxes = np.array([one["box_2d"] for one in detections], float).reshape(-1, 4) * scale
    own = [colors[one["class"]] for one in detections]
    draw_rectangles(picture, boxes, own)
    for one, (x, y, _, _), color in zip(detections, boxes.astype(int).tolist(), own, strict=True):
        write(picture, f"{one['class']} {one['score']:.2f}", (x, max(y - 4, 12)), color, 0.4)
    return picture
