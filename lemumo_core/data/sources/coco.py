"""Annotation files in COCO's format (cocodataset.org, "Data format")."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault

log = logging.getLogger(__name__)


class ImageBoxes(NamedTuple):
    """Annotations of one image.

    Attributes:
        boxes: float64 (K, 4) x, y, width, height, pixels; of an area above 0.
        names: K class names.
        crowds: float64 (M, 4) as ``boxes``: regions with objects that are not told apart.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    crowds: np.ndarray


def read_json(path: Path, layout: str) -> dict[str, Any]:
    """Parse a file that holds one JSON object.

    Raises:
        FileNotFoundError: there is no such file; the message shows the layout.
        Fault: ``bad_table``.
    """
    try:
        table = json.loads(existing(path, layout).read_bytes())
    except ValueError as error:
        raise Fault("bad_table", f"{path} is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise Fault("bad_table", f"{path} must hold a JSON object, not a {type(table).__name__}")
    return table


def read_coco(path: Path, layout: str) -> dict[str, ImageBoxes]:
    """Read the boxes of every image that a file lists, in its order, by the image's file name.

    Annotations with ``iscrowd``, or with the ``ignore`` of formats derived from COCO's, are crowds.
    Boxes of no area are left out and counted in a warning.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_table``; ``bad_labels`` for a box that is not four finite numbers with sizes of
            at least 0, naming the annotation.
    """
    table = read_json(path, layout)
    try:
        categories = {row["id"]: str(row["name"]) for row in table["categories"]}
        annotations: dict[Any, list[tuple[str, list[float], bool]]] = defaultdict(list)
        empty = 0
        for number, row in enumerate(table["annotations"]):
            box = _box(row.get("bbox"), f"{path}, annotation {row.get('id', number)}")
            crowd = bool(row.get("iscrowd") or row.get("ignore"))
            if min(box[2:]) > 0:
                annotations[row["image_id"]].append((categories[row["category_id"]], box, crowd))
            else:
                empty += 1
        if empty:
            log.warning("%s: %d boxes of no area are left out", path, empty)
        return {
            Path(row["file_name"]).name: _of_image(annotations[row["id"]])
            for row in table["images"]
        }
    except Fault:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("bad_table", f"{path} is not a COCO file as expected: {error!r}") from None


def _box(bbox: Any, place: str) -> list[float]:
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError):
        x = y = width = height = float("nan")
    if not np.isfinite([x, y, width, height]).all() or width < 0 or height < 0:
        raise Fault(
            "bad_labels",
            f"{place}: bbox must be x, y, width, height: finite, sizes not negative; got {bbox}",
        )
    return [x, y, width, height]


def _of_image(rows: list[tuple[str, list[float], bool]]) -> ImageBoxes:
    boxes = [box for _, box, crowd in rows if not crowd]
    crowds = [box for _, box, crowd in rows if crowd]
    names = tuple(name for name, _, crowd in rows if not crowd)
    return ImageBoxes(_rows(boxes), names, _rows(crowds))


def _rows(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)
