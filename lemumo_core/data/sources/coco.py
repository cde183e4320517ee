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

TOLERANCE_PX = 2.0
"""Boxes are rounded: by so much they may reach beyond their image."""


class ImageBoxes(NamedTuple):
    """Annotations of one image.

    Attributes:
        boxes: float64 (K, 4) x, y, width, height, pixels; of an area above 0.
        names: K class names.
        crowds: float64 (M, 4) as ``boxes``: regions with objects that are not annotated one by one.
        size: width and height of the image that the boxes are of; None where the file has none.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    crowds: np.ndarray
    size: tuple[int, int] | None


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
    Boxes of no area, and those of images that it does not list, are left out and counted in
    warnings, as are boxes that reach beyond their image.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_table``, also for a name that two images have, and where no box is of an image
            of the file; ``bad_labels`` for a box that is not four finite numbers with sizes of at
            least 0, naming the annotation, and for boxes in shares of their image.
    """
    table = read_json(path, layout)
    try:
        categories = {row["id"]: str(row["name"]) for row in table["categories"]}
        annotations: dict[Any, list[tuple[str, list[float], bool]]] = defaultdict(list)
        empty = 0
        for number, row in enumerate(table["annotations"]):
            place = f"{path}, annotation {row.get('id', number)}"
            box = _box(row.get("bbox"), place)
            crowd = bool(int(row.get("iscrowd") or 0) or int(row.get("ignore") or 0))
            if row["category_id"] not in categories:
                raise Fault(
                    "bad_table",
                    f"{place}: category_id {row['category_id']!r} is no id of categories",
                )
            if min(box[2:]) > 0:
                annotations[row["image_id"]].append((categories[row["category_id"]], box, crowd))
            else:
                empty += 1
        if empty:
            log.warning("%s: %d boxes of no area are left out", path, empty)
        _check_boxes(path, annotations, table["images"])
        found: dict[str, ImageBoxes] = {}
        for row in table["images"]:
            name = Path(row["file_name"]).name
            if name in found:
                raise Fault("bad_table", f"{path} lists two images named {name}: boxes of which?")
            found[name] = _of_image(annotations[row["id"]], _size(row))
        return found
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


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    if "width" not in image or "height" not in image:
        return None
    return int(image["width"]), int(image["height"])


def _check_boxes(
    path: Path,
    annotations: dict[Any, list[tuple[str, list[float], bool]]],
    images: list[dict[str, Any]],
) -> None:
    """Find boxes of no image, in shares of the image, or beyond it."""
    sizes = {image["id"]: _size(image) for image in images}
    orphans = annotations.keys() - sizes.keys()
    if orphans and orphans == annotations.keys():
        raise Fault(
            "bad_table",
            f"{path}: no box is of an image of the file: image_id is e.g. {next(iter(orphans))!r}, "
            f"the ids of images e.g. {next(iter(sizes), None)!r}",
        )
    if orphans:
        count = sum(len(annotations[one]) for one in orphans)
        log.warning("%s: %d boxes of images that it does not list are left out", path, count)
    ends = {
        one: np.array([[x + width, y + height] for _, (x, y, width, height), _ in rows])
        for one, rows in annotations.items()
        if one in sizes
    }
    if ends and max(float(end.max()) for end in ends.values()) <= 1:
        raise Fault(
            "bad_labels",
            f"{path}: all boxes end within the first pixel: give x, y, width and height in pixels, "
            "not in shares of the image",
        )
    beyond = sum(
        int((end > np.array(size) + TOLERANCE_PX).any(axis=1).sum())
        for one, end in ends.items()
        if (size := sizes[one]) is not None
    )
    if beyond:
        log.warning(
            "%s: %d boxes reach beyond their images and are clipped: are they x, y, width, height?",
            *(path, beyond),
        )


def _of_image(
    rows: list[tuple[str, list[float], bool]], size: tuple[int, int] | None
) -> ImageBoxes:
    boxes = [box for _, box, crowd in rows if not crowd]
    crowds = [box for _, box, crowd in rows if crowd]
    names = tuple(name for name, _, crowd in rows if not crowd)
    return ImageBoxes(_rows(boxes), names, _rows(crowds), size)


def _rows(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)
