"""Detections as autoware_perception_msgs/DetectedObjects, where that package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3
from std_msgs.msg import Header

from lemumo_core.frame import Detections
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.streaming.outputs import Result
from lemumo_ros.publish.rclpy_builder import build


def message_type() -> Any:
    """Return the class DetectedObjects.

    Raises:
        ImportError: without the package.
    """
    from autoware_perception_msgs.msg import DetectedObjects

    return DetectedObjects


def detected_objects(
    detections: Detections, class_names: Sequence[str], T_output_camera: np.ndarray, header: Header
) -> Any:
    """Return a DetectedObjects message; classes that Autoware does not name are UNKNOWN.

    Args:
        detections: as for ``MessageBuilder.detections_3d``.
        class_names: likewise.
        T_output_camera: likewise.
        header: likewise.
    """
    from autoware_perception_msgs.msg import (
        DetectedObject,
        DetectedObjectKinematics,
        ObjectClassification,
        Shape,
    )

    message = message_type()(header=header)
    poses = build.box_poses(detections.boxes_3d, T_output_camera)
    for i, (pose, box) in enumerate(zip(poses, detections.boxes_3d.tolist(), strict=True)):
        score = float(detections.scores[i])
        name = class_names[int(detections.class_ids[i])].upper()
        label = getattr(ObjectClassification, name, ObjectClassification.UNKNOWN)
        kinematics = DetectedObjectKinematics(
            orientation_availability=DetectedObjectKinematics.AVAILABLE
        )
        kinematics.pose_with_covariance.pose = pose
        length, width, height = box[3:6]
        message.objects.append(
            DetectedObject(
                existence_probability=score,
                classification=[ObjectClassification(label=label, probability=score)],
                kinematics=kinematics,
                shape=Shape(
                    type=Shape.BOUNDING_BOX, dimensions=Vector3(x=length, y=width, z=height)
                ),
            )
        )
    return message


def objects_of(builder: MessageBuilder, result: Result) -> Any:
    """Return the DetectedObjects of a result, in its output frame."""
    header = builder.header(result.perception.stamp_ns, result.output_frame or result.frame_id)
    names = result.manifest.detection_classes
    return detected_objects(result.perception.detections, names, result.T_output_camera, header)
