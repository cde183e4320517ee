"""Parsing KITTI's label files, also as other tools write them: with 2D boxes or 3D boxes alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lemumo_core.data.sources.files import read_text
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import count_points, image_bounds
from lemumo_core.geometry.camera import Camera

LABEL_FIELDS = 15
"""type, truncated, occluded, alpha, 4 x 2D box, h, w, l, x, y, z, rotation_y (then a score)."""
DONT_CARE = "DontCare"
VISIBILITY: dict[float, float] = {0: 1.0, 1: 0.6, 2: 0.3}
"""``occluded`` (fully visible, partly, largely occluded) to a share of the object, our reading of
the words; 3 (unknown) is NaN."""
NO_SIZE = ((0.0, 0.0, 0.0), (-1.0, -1.0, -1.0))
NO_LOCATION = (*NO_SIZE, (-1000.0, -1000.0, -1000.0))
NO_BOX_2D = ((0.0, 0.0, 0.0, 0.0), (-1.0, -1.0, -1.0, -1.0))
"""Placeholders of a box that is not known: KITTI's own, and zeros (NVIDIA TAO)."""
NEAREST_REGION_M = 20.0
"""``DontCare`` regions hold what is too far off to be annotated, from about here on."""


class _Row(NamedTuple):
    """One line: an object, or a region where nothing is annotated.

    Attributes:
        name: class, in lower case; '' of a region.
        box_3d: x, y, z, length, width, height, yaw in rectified camera 0; None: not known.
        box_2d: x_min, y_min, x_max, y_max in the left image; None: not known.
        visibility: share that is seen.
    """

    name: str
    box_3d: list[float] | None
    box_2d: list[float] | None
    visibility: float


def read_labels(
    path: Path,
    camera: Camera,
    offset: np.ndarray,
    points: np.ndarray | None = None,
    annotated: bool = True,
) -> Labels:
    """Read one ``label_2`` file.

    A file of 2D boxes alone gives Labels without 3D boxes. Where others of the file have 3D boxes,
    an object without one is a region to ignore, as ``DontCare`` is.

    Args:
        path: the file.
        camera: the Frame's.
        offset: float64 (3,), added to box centres: rectified camera 0 to the Frame's camera.
        points: float64 (N, 3), the scan in the Frame's camera, to count those inside each box.
        annotated: the Frame's image is the annotated left one. Otherwise 2D boxes are projected
            from the 3D boxes, objects that the image does not show are left out, and regions are
            widened by what they may have moved.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_labels`` with file and line, for a line that is no label, or a box that is
            neither sound nor marked as not known.
    """
    lines = read_text(path, "label_2/*.txt").splitlines()
    rows = [_row(line, f"{path}:{i}") for i, line in enumerate(lines, start=1) if line.strip()]
    _check_inside([row.box_2d for row in rows if row.name], camera, path)
    objects = [row for row in rows if row.name]
    regions = [row.box_2d for row in rows if not row.name]
    if objects and all(row.box_3d is None for row in objects):
        if not annotated:
            return Labels()
        return Labels(
            boxes_2d=_array([row.box_2d for row in objects], 4),
            class_names=tuple(row.name for row in objects),
            visibility=np.array([row.visibility for row in objects], np.float32),
            ignore=_regions(regions, offset, camera, annotated),
        )
    regions += [row.box_2d for row in objects if row.box_3d is None]
    objects = [row for row in objects if row.box_3d is not None]
    boxes_3d = _array([row.box_3d for row in objects], 7)
    boxes_3d[:, :3] += offset.astype(np.float32)
    boxes_2d = image_bounds(boxes_3d, camera)
    kept: np.ndarray = np.ones(len(objects), bool)
    if annotated:
        for bounds, row in zip(boxes_2d, objects, strict=True):
            if row.box_2d is not None:
                bounds[:] = row.box_2d
    else:
        kept = np.asarray(boxes_2d.any(axis=1))
    return Labels(
        boxes_3d=boxes_3d[kept],
        boxes_2d=boxes_2d[kept],
        class_names=tuple(row.name for row, keep in zip(objects, kept, strict=True) if keep),
        visibility=np.array([row.visibility for row in objects], np.float32)[kept],
        num_points=None if points is None else count_points(points, boxes_3d[kept]),
        ignore=_regions(regions, offset, camera, annotated),
    )


def _check_inside(boxes_2d: list[list[float] | None], camera: Camera, path: Path) -> None:
    """Refuse 2D boxes around places outside the image: those of images of another size."""
    for x1, y1, x2, y2 in (box for box in boxes_2d if box is not None):
        if not (0 <= x1 + x2 <= 2 * camera.width and 0 <= y1 + y2 <= 2 * camera.height):
            raise Fault(
                "bad_labels",
                f"{path}: the 2D box {[x1, y1, x2, y2]} lies outside the {camera.width}x"
                f"{camera.height} image: were the images resized without their labels?",
            )


def _row(line: str, place: str) -> _Row:
    fields = line.split()
    try:
        numbers = [float(field) for field in fields[1:LABEL_FIELDS]]
    except ValueError:
        numbers = []
    if len(numbers) != LABEL_FIELDS - 1:
        raise Fault(
            "bad_labels",
            f"{place}: expected a name and {LABEL_FIELDS - 1} numbers, got: {line}",
        )
    occluded, box_2d = numbers[1], numbers[3:7]
    (h, w, length), (x, y, z), yaw = numbers[7:10], numbers[10:13], numbers[13]
    x1, y1, x2, y2 = box_2d
    known_2d = tuple(box_2d) not in NO_BOX_2D
    if known_2d and not (np.isfinite(box_2d).all() and x2 > x1 and y2 > y1):
        raise Fault("bad_labels", f"{place}: the 2D box {box_2d} is not finite, or empty: {line}")
    if fields[0] == DONT_CARE:
        return _Row("", None, box_2d, np.nan)
    known_3d = (h, w, length) not in NO_SIZE or (x, y, z) not in NO_LOCATION
    if known_3d and not (np.isfinite(numbers[7:]).all() and min(h, w, length) > 0):
        raise Fault(
            "bad_labels",
            f"{place}: the 3D box needs finite numbers and sizes above 0; where it is not known "
            f"write sizes -1 and a location of -1000: {line}",
        )
    if not known_2d and not known_3d:
        raise Fault("bad_labels", f"{place}: the object has neither a 2D nor a 3D box: {line}")
    # KITTI's y is the bottom of the box, and y points down.
    return _Row(
        name=fields[0].lower(),
        box_3d=[x, y - h / 2, z, length, w, h, yaw] if known_3d else None,
        box_2d=box_2d if known_2d else None,
        visibility=VISIBILITY.get(occluded, np.nan),
    )


def _array(rows: list[list[float]] | list[list[float] | None], columns: int) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, columns).astype(np.float32)


def _regions(
    boxes: list[list[float] | None], offset: np.ndarray, camera: Camera, annotated: bool
) -> np.ndarray | None:
    """Regions of the left image in the Frame's: float32 (M, 4), None without any."""
    if not boxes:
        return None
    regions = _array(boxes, 4)
    if not annotated:
        moved = camera.fx * float(offset[0]) / NEAREST_REGION_M
        regions[:, 0] += min(moved, 0.0)
        regions[:, 2] += max(moved, 0.0)
    return regions
