"""Labelled objects and the rule which of them count, for metrics and training targets alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.frame import Labels
from lemumo_core.taxonomy import detection_ids


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
    def from_labels(cls, labels: Labels, classes: Sequence[str]) -> Objects:
        """Select the objects of a frame whose ``taxonomy.detection_class`` is a given class.

        Raises:
            ValueError: the labels have no 3D boxes.
        """
        if labels.boxes_3d is None:
            raise ValueError("these labels have no 3D boxes: detections cannot be scored on them")
        ids = detection_ids(labels.class_names, classes)
        kept, unknown = ids >= 0, np.full(len(ids), np.nan)
        visibility = unknown if labels.visibility is None else labels.visibility
        num_points = unknown if labels.num_points is None else labels.num_points
        return cls(
            labels.boxes_3d[kept],
            ids[kept],
            visibility[kept],
            np.nan_to_num(num_points[kept], nan=-1).astype(np.int64),
        )
