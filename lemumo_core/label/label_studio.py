"""Label Studio's JSON of tasks: rectangles, and label maps as polygons.

Format: https://labelstud.io/guide/export
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.frame import UNLABELLED, Frame
from lemumo_core.label.boxes_2d import IGNORE, ImageBox, box_fields, boxes_of
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

FILE = "tasks.json"
IMAGES = "/data/local-files/?d=images/"
"""Where Label Studio's local storage serves the images, with the export folder as its root."""


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write images, and tasks with their boxes as predictions, to be corrected."""
    tasks = []
    for name, frame in frames:
        write_image(frame, out / "images" / f"{name}.png")
        size = frame.camera.width, frame.camera.height
        result = [_rectangle(box.corners, box.name, size) for box in boxes_of(frame)]
        data = {"image": f"{IMAGES}{name}.png"}
        tasks.append({"data": data, "predictions": [{"result": result}]})
    write_whole(out / FILE, json.dumps(tasks, indent=1).encode())


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read an export in JSON, or the folder that holds ``tasks.json``.

    Of a task the last annotation counts, or without any the last prediction; a task without either
    was not labelled. A rectangle named ``ignore`` is a region to ignore.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_labels`` for other JSON.
    """
    file = existing(path / FILE if path.is_dir() else path, "Label Studio's export in JSON")
    found: dict[str, LabelsOf] = {}
    try:
        tasks = json.loads(file.read_bytes())
        results = {}
        for task in tasks:
            versions = task.get("annotations") or task.get("predictions")
            if versions:
                stem = Path(str(task["data"]["image"]).split("=")[-1]).stem
                results[stem] = versions[-1]["result"]
        areas = dict.fromkeys(_name(one) for rows in results.values() for one in rows if _area(one))
        for stem, rows in results.items():
            found[stem] = partial(_labels, rows, tuple(areas), file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fault(
            "bad_labels", f"{file} is not a list of Label Studio's tasks: {error!r}"
        ) from None
    return found


def _rectangle(corners: list[float], name: str, size: tuple[int, int]) -> dict[str, Any]:
    low_u, low_v, high_u, high_v = corners
    width, height = size
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": {
            "x": 100 * low_u / width,
            "y": 100 * low_v / height,
            "width": 100 * (high_u - low_u) / width,
            "height": 100 * (high_v - low_v) / height,
            "rotation": 0,
            "rectanglelabels": [name],
        },
    }


def _labels(
    rows: list[dict[str, Any]], areas: tuple[str, ...], file: Path, frame: Frame
) -> dict[str, Any]:
    size = frame.camera.width, frame.camera.height
    try:
        annotated = next(((r["original_width"], r["original_height"]) for r in rows), size)
        named = ((_name(row), row["value"]) for row in rows if _box(row))
        boxes = [ImageBox(_corners(value, size), name, name == IGNORE) for name, value in named]
        found = box_fields(frame, boxes, annotated)
        return found | (_label_map(rows, areas, size) if areas else {})
    except (KeyError, TypeError) as error:
        raise Fault(
            "bad_labels", f"{file}: a result is not as Label Studio writes it: {error!r}"
        ) from None


def _box(row: dict[str, Any]) -> bool:
    return row["type"] == "rectanglelabels"


def _area(row: dict[str, Any]) -> bool:
    return row["type"] == "polygonlabels"


def _name(row: dict[str, Any]) -> str:
    return str(row["value"][row["type"]][0])


def _corners(value: dict[str, Any], size: tuple[int, int]) -> list[float]:
    if value.get("rotation"):
        raise Fault(
            "bad_labels", "a rectangle is rotated, which boxes of an image are not: draw it upright"
        )
    low = [value["x"] * size[0] / 100, value["y"] * size[1] / 100]
    return [*low, low[0] + value["width"] * size[0] / 100, low[1] + value["height"] * size[1] / 100]


def _label_map(
    rows: list[dict[str, Any]], names: tuple[str, ...], size: tuple[int, int]
) -> dict[str, Any]:
    ids = np.full((size[1], size[0]), UNLABELLED, np.uint8)
    for row in filter(_area, rows):
        points = np.array(row["value"]["points"], float) * size / 100
        cv2.fillPoly(ids, [points.round().astype(np.int32)], names.index(_name(row)))
    return {"label_map": ids, "label_names": names}
