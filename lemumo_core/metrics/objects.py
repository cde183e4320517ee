"""Labelled objects and the rule which of them count, for metrics and training targets alike."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObjectFilter:
    """Rule which objects a model is expected to find; the others count neither way.

    Attributes:
        min_visibility: least share of the object that is seen.
        min_points: least number of LiDAR returns in its box.
        max_depth_m: farthest centre along the optical axis.
    """

    min_visibility: float = 0.1
    min_points: int = 1
    max_depth_m: float = 80.0

    def counts(self, depth_m: Any, visibility: Any, num_points: Any) -> Any:
        """Return which objects count. An unknown value does not exclude an object.

        Args:
            depth_m: z of the centres; those behind the camera never count.
            visibility: NaN where unknown.
            num_points: -1 where unknown.

        Returns:
            bool of the arguments' shape; NumPy arrays or tensors, as they are.
        """
        hidden = visibility < self.min_visibility  # false for NaN
        empty = (num_points >= 0) & (num_points < self.min_points)
        return ~hidden & ~empty & (depth_m > 0) & (depth_m <= self.max_depth_m)


@dataclass(frozen=True, eq=False)
class Objects:
    """Ground truth objects of one image.

    Objects that the image does not show do not belong here, unless ``visibility`` marks them.

    Attributes:
        boxes_3d: float (G, 7) as in ``geometry.boxes``, camera optical frame.
        class_ids: int (G,) into the classes of the metric; rows of other ids are ignored.
        visibility: float (G,), NaN where unknown.
        num_points: int (G,), -1 where unknown.
    """

    boxes_3d: np.ndarray
    class_ids: np.ndarray
    visibility: np.ndarray
    num_points: np.ndarray

    @classmethod
    def from_labels(cls, labels: Labels, classes: Taxonomy) -> Objects:
        """Select the objects of a frame that are of one of the detection classes.

        Raises:
            ValueError: the labels have no 3D boxes.
        """
        if labels.boxes_3d is None:
            raise ValueError("these labels have no 3D boxes: detections cannot be scored on them")
        ids = classes.detection_ids(labels.class_names)
        kept, unknown = ids >= 0, np.full(len(ids), np.nan)
        visibility = unknown if labels.visibility is None else labels.visibility
        num_points = unknown if labels.num_points is None else labels.num_points
        return cls(
            labels.boxes_3d[kept],
            ids[kept],
            visibility[kept],
            np.nan_to_num(num_points[kept], nan=-1).astype(np.int64),
        )


def unknown_classes(labels: Labels, classes: Taxonomy) -> tuple[str, ...]:
    """Return the class names of objects of unknown classes, one a label; warn of each name once.

    Unknown is what is neither one of a model's classes nor known to be another one
    (``Taxonomy.is_unknown``).
    """
    names = tuple(compress(labels.class_names, classes.is_unknown(labels.class_names)))
    for name in set(names):
        _warn(name, classes.detection_classes)
    return names


def ignored_regions(labels: Labels, classes: Taxonomy, camera: Camera) -> np.ndarray:
    """Return the regions of an image in which nothing is learnt or evaluated.

    These are ``labels.ignore`` and the bounds of objects to ignore, those of unknown classes among
    them, which may be any.

    Args:
        labels: of the image.
        classes: of the model.
        camera: model of the image.

    Returns:
        float32 (M, 4) x_min, y_min, x_max, y_max, pixels of the image.
    """
    regions = [np.zeros((0, 4), np.float32) if labels.ignore is None else labels.ignore]
    unknown_classes(labels, classes)  # which warns
    ignored = classes.is_ignored(labels.class_names)
    if ignored.any():
        if labels.boxes_2d is not None:
            regions.append(labels.boxes_2d[ignored])
        elif labels.boxes_3d is not None:
            regions.append(image_bounds(labels.boxes_3d[ignored], camera))
    return np.concatenate(regions).astype(np.float32)


def share_ignored(boxes_2d: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return the largest share of each box's area that lies in one region: float64 (K,).

    KITTI's and COCO's measure of what a region takes away: intersection by the box's own area.

    Args:
        boxes_2d: (K, 4) x_min, y_min, x_max, y_max; an empty box has no share.
        regions: (M, 4) in the same pixels.
    """
    boxes, regions = (np.asarray(of, np.float64) for of in (boxes_2d, regions))
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1).max(axis=1, initial=0.0)
    area = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)


@functools.cache
def _warn(name: str, classes: tuple[str, ...]) -> None:
    log.warning(
        "labels of class '%s' are none of %s: they are ignored, neither learnt nor evaluated; "
        "name the class they belong to in the class file of --classes, or that they are background",
        *(name, ", ".join(classes)),
    )
