"""Parsers of KITTI's calibration and label files."""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import count_points, image_bounds
from lemumo_core.geometry.camera import Camera

LABEL_FIELDS = 15
"""type, truncated, occluded, alpha, 4 x 2D box, h, w, l, x, y, z, rotation_y (then a score)."""
VISIBILITY: dict[float, float] = {0: 1.0, 1: 0.6, 2: 0.3}
"""``occluded`` (fully visible, partly, largely occluded) to the visible share of the object, an
interpretation of the words; 3 (unknown) is NaN."""


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Read the ``KEY: numbers`` lines of a KITTI calibration file as float64 vectors.

    Other lines (dates) are skipped.

    Raises:
        FileNotFoundError: there is no such file.
    """
    values = {}
    for line in existing(path, "a KITTI calibration file").read_text().splitlines():
        key, _, numbers = line.partition(":")
        try:
            values[key.strip()] = np.array(numbers.split(), np.float64)
        except ValueError:
            continue
    return values


def read_labels(
    path: Path, offset: np.ndarray, points: np.ndarray, camera: Camera | None = None
) -> Labels:
    """Read one ``label_2`` file, without its ``DontCare`` regions.

    Args:
        path: the file.
        offset: float64 (3,), added to box centres: rectified camera 0 to the Frame's camera.
        points: float64 (N, 3), the scan in the Frame's camera, to count those inside each box.
        camera: the Frame's, where it is not the annotated left one: then 2D boxes are projected
            from the 3D boxes, and objects that the image does not show are left out.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_labels``.
    """
    names, boxes_3d, boxes_2d, visibility = [], [], [], []
    lines = existing(path, "label_2/*.txt").read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0] == "DontCare":
            continue
        try:
            numbers = map(float, fields[1:LABEL_FIELDS])
            _, occluded, _, x1, y1, x2, y2, h, w, length, x, y, z, ry = numbers
        except ValueError:
            raise Fault(
                "bad_labels",
                f"{path}:{number}: expected a name and {LABEL_FIELDS - 1} numbers, got: {line}",
            ) from None
        names.append(fields[0].lower())
        # KITTI's y is the bottom of the box, and y points down.
        boxes_3d.append([*(np.array([x, y - h / 2, z]) + offset), length, w, h, ry])
        boxes_2d.append([x1, y1, x2, y2])
        visibility.append(VISIBILITY.get(occluded, np.nan))
    boxes = np.array(boxes_3d, np.float32).reshape(-1, 7)
    bounds = np.array(boxes_2d, np.float32).reshape(-1, 4)
    kept = np.ones(len(boxes), bool)
    if camera is not None:
        bounds = image_bounds(boxes, camera)
        kept &= bounds.any(axis=1)
    return Labels(
        boxes_3d=boxes[kept],
        boxes_2d=bounds[kept],
        class_names=tuple(compress(names, kept.tolist())),
        visibility=np.array(visibility, np.float32)[kept],
        num_points=count_points(points, boxes[kept]),
    )


def baseline(P: np.ndarray) -> np.ndarray:
    """Return the offset K^-1 p4 (3,) that takes points of rectified camera 0 to P's own camera."""
    return np.linalg.solve(P[:, :3], P[:, 3])


def matrix(
    values: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """Return one entry of ``read_calibration(path)`` in its shape.

    Raises:
        Fault: ``bad_calibration``: it is missing, or holds another count of numbers.
    """
    if key not in values:
        raise Fault(
            "bad_calibration", f"{path} has no {key}; it has {', '.join(values) or 'nothing'}"
        )
    if values[key].size != np.prod(shape):
        raise Fault("bad_calibration", f"{path}: {key} must hold {np.prod(shape)} numbers")
    return values[key].reshape(shape)
