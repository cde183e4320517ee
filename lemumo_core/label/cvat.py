"""CVAT's XML "for images" 1.1: boxes, and label maps as masks and polygons.

Format: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import cv2
import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.frame import UNLABELLED, Frame, Labels
from lemumo_core.label.boxes_2d import IGNORE, ImageBox, box_fields, boxes_of, names_of_ids
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

FILE = "annotations.xml"
AREAS = ("mask", "polygon")


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write images, boxes and label maps; the latter as a mask for each class."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    listed = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    known: set[str] = set()
    for number, (name, frame) in enumerate(frames):
        write_image(frame, out / "images" / f"{name}.png")
        size = {"width": str(frame.camera.width), "height": str(frame.camera.height)}
        about = {"id": str(number), "name": f"{name}.png"}
        image = SubElement(root, "image", about | size)
        for box in boxes_of(frame):
            ends = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(repr, box.corners), strict=True))
            about = {"label": box.name, "occluded": "0", "z_order": "1"}
            SubElement(image, "box", about | ends)
        _write_masks(image, frame.labels or Labels())
        known |= {str(shape.get("label")) for shape in image}
    for name in sorted(known):
        SubElement(SubElement(listed, "label"), "name").text = name
    ElementTree.indent(root)
    write_whole(out / FILE, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read a file, or the folder that holds ``annotations.xml``.

    A box named ``ignore`` is a region to ignore. Cuboids drawn in an image become the boxes around
    them. Where any image has masks or polygons, all have a label map.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_labels`` for other XML, and for videos, whose frames have no names.
    """
    file = existing(path / FILE if path.is_dir() else path, f"CVAT's {FILE}")
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise Fault("bad_labels", f"{file} is not XML: {error}") from None
    images = root.findall("image")
    if not images:
        raise Fault(
            "bad_labels",
            f"{file} names no images: export the task as 'CVAT for images 1.1'",
        )
    names = dict.fromkeys(str(s.get("label")) for one in images for s in one if s.tag in AREAS)
    return {
        Path(str(image.get("name"))).stem: partial(_labels, image, tuple(names), file)
        for image in images
    }


def _labels(image: Element, names: tuple[str, ...], file: Path, frame: Frame) -> dict[str, Any]:
    try:
        size = int(image.attrib["width"]), int(image.attrib["height"])
        named = ((str(shape.get("label")), shape) for shape in image if _is_box(shape))
        boxes = [ImageBox(_corners(shape), name, name == IGNORE) for name, shape in named]
        found = box_fields(frame, boxes, size)
        return found | (_label_map(image, names, size) if names else {})
    except (KeyError, ValueError) as error:
        if isinstance(error, Fault):
            raise
        where = f"{file}, image {image.get('name')}"
        raise Fault("bad_labels", f"{where} is not as CVAT writes it: {error!r}") from None


def _is_box(shape: Element) -> bool:
    return shape.tag in ("box", "cuboid")


def _corners(shape: Element) -> list[float]:
    if shape.tag == "box":
        return [float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr")]
    ends = {k: float(v) for k, v in shape.attrib.items() if k[:2] in ("xt", "xb", "yt", "yb")}
    u = [value for name, value in ends.items() if name[0] == "x"]
    v = [value for name, value in ends.items() if name[0] == "y"]
    return [min(u), min(v), max(u), max(v)]


def _label_map(image: Element, names: tuple[str, ...], size: tuple[int, int]) -> dict[str, Any]:
    """Draw the areas of an image, the topmost last."""
    width, height = size
    ids = np.full((height, width), UNLABELLED, np.uint8)
    areas = [shape for shape in image if shape.tag in AREAS]
    for shape in sorted(areas, key=lambda one: int(one.get("z_order", 0))):
        number = names.index(str(shape.get("label")))
        if shape.tag == "polygon":
            points = [pair.split(",") for pair in shape.attrib["points"].split(";")]
            cv2.fillPoly(ids, [np.array(points, float).round().astype(np.int32)], number)
            continue
        left, top, wide, tall = (int(shape.attrib[k]) for k in ("left", "top", "width", "height"))
        runs = [int(run) for run in shape.attrib["rle"].split(",")]
        mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(tall, wide)
        ids[top : top + tall, left : left + wide][mask] = number
    return {"label_map": ids, "label_names": names}


def _write_masks(image: Element, labels: Labels) -> None:
    if labels.label_map is None:
        return
    for number, name in enumerate(names_of_ids(labels)):
        rows, columns = np.nonzero(labels.label_map == number)
        if not len(rows):
            continue
        top, left = int(rows.min()), int(columns.min())
        mask = labels.label_map[top : rows.max() + 1, left : columns.max() + 1] == number
        place = {"left": left, "top": top, "width": mask.shape[1], "height": mask.shape[0]}
        numbers = {key: str(value) for key, value in place.items()}
        about = {"label": name, "rle": _runs(mask.ravel()), "z_order": "0"}
        SubElement(image, "mask", about | numbers)


def _runs(mask: np.ndarray) -> str:
    """Return the lengths of runs of a flat mask, the first of what it leaves out."""
    ends = np.flatnonzero(np.diff(mask)) + 1
    lengths = np.diff([0, *ends.tolist(), len(mask)]).tolist()
    return ", ".join(map(str, [0, *lengths] if mask[0] else lengths))
