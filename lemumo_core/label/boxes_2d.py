"""Boxes in an image, as the formats of annotation tools share them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

IGNORE = "ignore"
"""Name of regions to ignore, in formats that know no others."""


class ImageBox(NamedTuple):
    """One box.

    Attributes:
        corners: x_min, y_min, x_max, y_max, pixels.
        name: of its class.
        is_region: whether it is a region to ignore.
        confidence: of the model that proposed it; None for a box that people made.
    """

    corners: list[float]
    name: str
    is_region: bool = False
    confidence: float | None = None


def boxes_of(frame: Frame) -> Iterator[ImageBox]:
    """Yield the labelled boxes of an image, then its regions to ignore."""
    labels = frame.labels or Labels()
    if labels.boxes_2d is not None:
        for i, (corners, name) in enumerate(
            zip(labels.boxes_2d.tolist(), labels.class_names, strict=True)
        ):
            if corners[2] > corners[0] and corners[3] > corners[1]:
                own = labels.box_confidence
                yield ImageBox(corners, name, confidence=None if own is None else float(own[i]))
    if labels.ignore is not None:
        for corners in labels.ignore.tolist():
            yield ImageBox(corners, IGNORE, True)


def box_fields(
    frame: Frame, boxes: Sequence[ImageBox], size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return boxes as fields of ``Labels``, clipped to the image; those outside are left out.

    Args:
        frame: whose labels they are.
        boxes: objects and regions to ignore, in any order.
        size: width and height of the image that was annotated, where the file says so.

    Raises:
        Fault: ``bad_labels`` where the image is of another size, or a box is not finite.
    """
    camera = frame.camera
    if size is not None and size != (camera.width, camera.height):
        raise Fault(
            "bad_labels",
            f"the image of {frame.stamp_ns} ns is {camera.width}x{camera.height}, its labels are "
            f"of one of {size[0]}x{size[1]}: annotate images of full size",
        )
    corners = np.array([box.corners for box in boxes], np.float64).reshape(-1, 4)
    if not np.isfinite(corners).all():
        raise Fault("bad_labels", f"a box of the image of {frame.stamp_ns} ns is not finite")
    corners = np.clip(corners, 0, np.tile([camera.width - 1, camera.height - 1], 2))
    is_region = np.array([box.is_region for box in boxes], bool)
    kept = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1) & ~is_region)
    return {
        "boxes_2d": corners[kept].astype(np.float32),
        "class_names": tuple(boxes[i].name for i in kept.tolist()),
        "ignore": corners[is_region].astype(np.float32) if is_region.any() else None,
    }


def names_of_ids(labels: Labels) -> tuple[str, ...]:
    """Return the names of the ids of a label map; the default classes where it has none."""
    return labels.label_names or tuple(SEGMENTATION_CLASSES)
