"""Ground truth in messages: boxes, label maps and depth of one camera image."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED
from lemumo_core.messages.images import check_size, pixels_of
from lemumo_core.messages.transforms import transform_to_matrix

MM_PER_M = 1000.0


def boxes_from_detections(
    msg: Any, T_camera_box: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...], np.ndarray | None]:
    """Read boxes, each with its most probable class, their ids and confidence.

    Args:
        msg: vision_msgs/Detection3DArray; sizes are length, width, height, and orientations turn
            body axes (x forward, z up) into the box's. Of these only the heading is kept.
        T_camera_box: float64 (4, 4), from the frame of the message to the camera optical frame.

    Returns:
        float32 (K, 7) as in ``lemumo_core.geometry.boxes``, K class names, K ids as in
        ``Labels.track_ids``, or none where no box has one, and float16 (K,) the scores of the
        classes as ``Labels.box_confidence``, or None where all are 1.

    Raises:
        Fault: ``bad_labels`` for a box without a class or whose sizes are not finite and above 0,
            ``bad_transform`` for its pose.
    """
    boxes, names, scores = [], [], []
    for detection in msg.detections:
        center, size = detection.bbox.center, detection.bbox.size
        pose = SimpleNamespace(translation=center.position, rotation=center.orientation)
        T = T_camera_box @ transform_to_matrix(pose)
        sizes = [size.x, size.y, size.z]
        if not detection.results or not np.isfinite(sizes).all() or min(sizes) <= 0:
            raise Fault(
                "bad_labels",
                f"a box of size {sizes} has {len(detection.results)} classes: it needs finite "
                "sizes above 0 and at least one class",
            )
        best = max(detection.results, key=lambda result: result.hypothesis.score)
        names.append(str(best.hypothesis.class_id))
        scores.append(best.hypothesis.score)
        boxes.append([*T[:3, 3], *sizes, math.atan2(-T[2, 0], T[0, 0])])
    ids = tuple(str(getattr(detection, "id", "")) for detection in msg.detections)
    confidence = None if all(score == 1 for score in scores) else np.array(scores, np.float16)
    found = np.array(boxes, np.float32).reshape(-1, 7)
    return found, tuple(names), ids if any(ids) else (), confidence


def regions_from_detections(msg: Any) -> np.ndarray:
    """Convert the boxes of a Detection2DArray to regions to ignore, whatever their classes.

    Args:
        msg: vision_msgs/Detection2DArray, pixels of the image.

    Returns:
        float32 (M, 4) as in ``Labels.ignore``.

    Raises:
        Fault: ``bad_labels`` for a box of no finite or negative size.
    """
    regions = []
    for detection in msg.detections:
        box = detection.bbox
        center = getattr(box.center, "position", box.center)  # vision_msgs 3 has no position
        width, height = box.size_x, box.size_y
        region = [
            *(center.x - width / 2, center.y - height / 2),
            *(center.x + width / 2, center.y + height / 2),
        ]
        if not np.isfinite(region).all() or min(width, height) < 0:
            raise Fault("bad_labels", f"a region to ignore is {region}: not finite, or negative")
        regions.append(region)
    return np.array(regions, np.float32).reshape(-1, 4)


def label_map_from_image(msg: Any) -> np.ndarray:
    """Read the label ids of a mono8 or 8UC1 sensor_msgs/Image: uint8 (H, W).

    Raises:
        Fault: ``bad_labels`` for another encoding, ``bad_image``.
    """
    return np.array(_single_channel(msg, ("mono8", "8UC1")))


def names_from_label_info(msg: Any) -> tuple[str, ...]:
    """Return the names of label ids as in ``Labels.label_names`` of a vision_msgs/LabelInfo.

    Raises:
        Fault: ``bad_labels`` for an id beyond those of label maps.
    """
    names = {int(one.class_id): str(one.class_name) for one in msg.class_map}
    if names and max(names) >= UNLABELLED:
        raise Fault("bad_labels", f"label id {max(names)} ({names[max(names)]}) is above 254")
    return tuple(names.get(i, "") for i in range(max(names, default=-1) + 1))


def depth_from_image(msg: Any) -> np.ndarray:
    """Convert a depth image as in REP-118 to metres: float32 (H, W), NaN = unknown.

    Args:
        msg: sensor_msgs/Image, 32FC1 in metres or 16UC1 in millimetres; what is not finite and
            positive is unknown.

    Raises:
        Fault: ``bad_labels`` for another encoding, ``bad_image``.
    """
    depth_m = _single_channel(msg, ("32FC1", "16UC1")).astype(np.float32)
    if msg.encoding == "16UC1":
        depth_m /= MM_PER_M
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    return depth_m


def _single_channel(msg: Any, encodings: tuple[str, ...]) -> np.ndarray:
    if msg.encoding not in encodings:
        raise Fault("bad_labels", f"encoding '{msg.encoding}' is none of {', '.join(encodings)}")
    check_size(msg.width, msg.height)
    return pixels_of(msg)
