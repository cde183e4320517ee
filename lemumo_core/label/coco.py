"""COCO's files of 2D boxes: ``annotations.json`` beside ``images/`` (cocodataset.org)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lemumo_core.data.sources.coco import ImageBoxes, read_coco
from lemumo_core.files import write_whole
from lemumo_core.frame import Frame
from lemumo_core.label.boxes_2d import IGNORE, ImageBox, box_fields, boxes_of
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

FILE = "annotations.json"


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write images and boxes; regions to ignore are crowds, confidence is ``score``."""
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for number, (name, frame) in enumerate(frames, 1):
        write_image(frame, out / "images" / f"{name}.png")
        camera = frame.camera
        size = {"width": camera.width, "height": camera.height}
        images.append({"id": number, "file_name": f"{name}.png", **size})
        for box in boxes_of(frame):
            low_u, low_v, high_u, high_v = box.corners
            width, height = high_u - low_u, high_v - low_v
            score = {} if box.confidence is None else {"score": box.confidence}
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": categories.setdefault(box.name, len(categories) + 1),
                    "bbox": [low_u, low_v, width, height],
                    "area": width * height,
                    "segmentation": [],
                    "iscrowd": int(box.is_region),
                    **score,
                }
            )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    document = {"images": images, "annotations": boxes, "categories": named}
    write_whole(out / FILE, json.dumps(document, indent=1).encode())


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read a file, or the folder that holds ``annotations.json``.

    Raises:
        Fault, FileNotFoundError: as ``read_coco``.
    """
    file = path / FILE if path.is_dir() else path
    found = read_coco(file, f"a COCO file, or a folder with {FILE}")
    return {Path(name).stem: partial(_labels, rows) for name, rows in found.items()}


def _labels(rows: ImageBoxes, frame: Frame) -> dict[str, Any]:
    objects, crowds = (
        (boxes + [0, 0, 1, 1] * boxes[:, [0, 1, 0, 1]]).tolist()
        for boxes in (rows.boxes, rows.crowds)
    )
    boxes = [ImageBox(corners, name) for corners, name in zip(objects, rows.names, strict=True)]
    boxes += [ImageBox(corners, IGNORE, True) for corners in crowds]
    return box_fields(frame, boxes, rows.size)
