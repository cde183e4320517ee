"""Annotated boxes of a data set, converted to Labels of one camera image."""

from __future__ import annotations

from itertools import compress
from typing import NamedTuple

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, rotation_from_quaternion

NORM_TOLERANCE = 1e-2
"""The length of a unit quaternion may differ so much from 1."""


class Annotations(NamedTuple):
    """Boxes at one time in one coordinate frame, e.g. the world.

    Attributes:
        poses: float64 (K, 7) centre x, y, z, metres, and rotation w, x, y, z; a box's own axes
            are x forward (length), y left (width), z up (height).
        sizes: float64 (K, 3) length, width, height, metres.
        names: K class names.
        num_points: int (K,) LiDAR returns in each box.
        visibility: (K,) share that is seen, 0 to 1; None where the data set does not say.
        track_ids: as in ``Labels``.
    """

    poses: np.ndarray
    sizes: np.ndarray
    names: tuple[str, ...]
    num_points: np.ndarray
    visibility: np.ndarray | None = None
    track_ids: tuple[str, ...] = ()


def visible_labels(
    annotations: Annotations,
    T_camera_world: np.ndarray,
    camera: Camera,
    point_labels: np.ndarray | None = None,
) -> Labels:
    """Convert annotations to Labels of one camera image.

    A box is kept where its bounds meet the image (``image_bounds``), as those of a bus across the
    road do whose corners all lie outside; occlusion is not considered. The true box may pitch and
    roll with the road; the label's yaw is that of its length axis as seen by the camera.

    Args:
        annotations: the boxes.
        T_camera_world: (4, 4), from the boxes' frame to the optical frame.
        camera: model of the image.
        point_labels: passed on.

    Raises:
        Fault: ``bad_labels`` for a box that is not finite, of sizes that are not above 0, or of a
            rotation that is no unit quaternion.
    """
    finite = np.isfinite(np.hstack([annotations.poses, annotations.sizes])).all(axis=1)
    turned = np.abs(np.square(annotations.poses[:, 3:]).sum(axis=1) - 1) <= NORM_TOLERANCE
    unsound = np.flatnonzero(~finite | ~turned | ~(annotations.sizes > 0).all(axis=1))
    if len(unsound):
        first = unsound[0]
        raise Fault(
            "bad_labels",
            f"{len(unsound)} of {len(finite)} boxes are not sound, the first a "
            f"'{annotations.names[first]}' at {annotations.poses[first, :3].tolist()} of size "
            f"{annotations.sizes[first].tolist()}: numbers must be finite, sizes above 0 and "
            "rotations unit quaternions",
        )
    boxes = []
    for pose, size in zip(annotations.poses, annotations.sizes, strict=True):
        T = T_camera_world @ make_T(rotation_from_quaternion(*pose[3:]), pose[:3])
        boxes.append([*T[:3, 3], *size, np.arctan2(-T[2, 0], T[0, 0])])
    boxes_3d = np.array(boxes, np.float64).reshape(-1, 7)
    bounds = image_bounds(boxes_3d, camera)
    kept = np.asarray((bounds[:, 2:] > bounds[:, :2]).all(axis=1))
    boxes_3d = boxes_3d[kept].astype(np.float32)
    visibility = annotations.visibility
    return Labels(
        boxes_3d=boxes_3d,
        boxes_2d=bounds[kept],
        class_names=tuple(compress(annotations.names, kept.tolist())),
        visibility=None if visibility is None else visibility[kept].astype(np.float32),
        num_points=annotations.num_points[kept].astype(np.int32),
        point_labels=point_labels,
        track_ids=tuple(compress(annotations.track_ids, kept.tolist())),
    )
