"""Detections as visualization_msgs markers, for RViz and Foxglove."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from lemumo_core.frame import Detections
from lemumo_ros.publish.rclpy_builder import build

_BOX_ALPHA = 0.35
_TEXT_HEIGHT_M = 0.6
_TEXT_GAP_M = 0.5


def markers(
    detections: Detections,
    class_names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    T_output_camera: np.ndarray,
    header: Header,
    lifetime_s: float = 0.5,
) -> MarkerArray:
    """Return markers that delete all earlier ones, then a translucent cube and a text for each box.

    Args:
        detections: as for ``MessageBuilder.detections_3d``.
        class_names: likewise.
        T_output_camera: likewise.
        header: likewise.
        colors: RGB, 0 to 255, by class id.
        lifetime_s: how long a viewer keeps the markers when no others follow.
    """
    lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
    common = {"header": header, "action": Marker.ADD, "lifetime": lifetime}
    white = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    scale = Vector3(z=_TEXT_HEIGHT_M)
    # Copies of two prototypes, because the constructor creates a default of every field.
    a_box = Marker(ns="boxes", type=Marker.CUBE, **common)
    a_text = Marker(ns="labels", type=Marker.TEXT_VIEW_FACING, color=white, scale=scale, **common)
    fills = [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=_BOX_ALPHA) for r, g, b in colors]
    msg = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    count = len(detections.boxes_3d)
    tops = detections.boxes_3d.astype(np.float64)
    tops[:, 1] -= tops[:, 5] / 2 + _TEXT_GAP_M  # y points down in the camera frame
    text_poses = build.box_poses(tops, T_output_camera)
    poses = build.box_poses(detections.boxes_3d, T_output_camera)
    for i, (pose, text_pose) in enumerate(zip(poses, text_poses, strict=True)):
        length, width, height = detections.boxes_3d[i, 3:6].tolist()
        class_id = int(detections.class_ids[i])
        box, text = copy.copy(a_box), copy.copy(a_text)
        box.id, box.pose, box.color = i, pose, fills[class_id]
        box.scale = Vector3(x=length, y=width, z=height)
        text.id, text.pose = count + i, text_pose
        text.text = f"{class_names[class_id]} {detections.scores[i]:.2f}"
        msg.markers += [box, text]
    return msg
