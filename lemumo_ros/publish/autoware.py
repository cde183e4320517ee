"""Detections and tracks as autoware_perception_msgs, where that package is installed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3
from std_msgs.msg import Header

from lemumo_core.frame import NO_TRACK, Detections, Tracks
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.messages.tracks import pose_of_track, twist
from lemumo_core.streaming.outputs import Result
from lemumo_ros.publish.rclpy_builder import build

RUN = uuid.uuid4().bytes[:8]
"""First half of every object's id, so that no two runs of a node give out the same ones."""


def message_type() -> Any:
    """Return the class DetectedObjects.

    Raises:
        ImportError: without the package.
    """
    from autoware_perception_msgs.msg import DetectedObjects

    return DetectedObjects


def tracked_message_type() -> Any:
    """Return the class TrackedObjects.

    Raises:
        ImportError: without the package.
    """
    from autoware_perception_msgs.msg import TrackedObjects

    return TrackedObjects


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
    from autoware_perception_msgs.msg import DetectedObject, DetectedObjectKinematics

    message = message_type()(header=header)
    for i, pose in enumerate(build.box_poses(detections.boxes_3d, T_output_camera)):
        kinematics = DetectedObjectKinematics(
            orientation_availability=DetectedObjectKinematics.AVAILABLE
        )
        kinematics.pose_with_covariance.pose = pose
        about = _class_and_shape(detections, i, class_names)
        message.objects.append(DetectedObject(kinematics=kinematics, **about))
    return message


def tracked_objects(
    detections: Detections,
    tracks: Tracks,
    class_names: Sequence[str],
    T_output_camera: np.ndarray,
    header: Header,
) -> Any:
    """Return a TrackedObjects message of the detections that belong to a track.

    A twist is along the object's own axes, as Autoware has it, and that of a track does not turn.

    Args:
        detections: as for ``detected_objects``.
        tracks: of the same detections.
        class_names: as for ``detected_objects``.
        T_output_camera: likewise.
        header: likewise.
    """
    from autoware_perception_msgs.msg import TrackedObject, TrackedObjectKinematics
    from unique_identifier_msgs.msg import UUID

    message = tracked_message_type()(header=header)
    axes = box_rotation(detections.boxes_3d[:, 6])
    for i, pose in enumerate(build.box_poses(detections.boxes_3d, T_output_camera)):
        if tracks.ids[i] == NO_TRACK:
            continue
        kinematics = TrackedObjectKinematics(
            orientation_availability=TrackedObjectKinematics.AVAILABLE
        )
        kinematics.pose_with_covariance.pose, kinematics.pose_with_covariance.covariance = (
            pose_of_track(build, tracks, i, T_output_camera, pose.orientation)
        )
        velocity, covariance = twist(tracks, i, axes[i].T)
        motion = kinematics.twist_with_covariance
        motion.twist.linear = build.xyz("Vector3", velocity.tolist())
        motion.covariance = covariance
        number = RUN + int(tracks.ids[i]).to_bytes(8, "big")
        object_id = UUID(uuid=np.frombuffer(number, np.uint8))
        about = _class_and_shape(detections, i, class_names)
        message.objects.append(TrackedObject(object_id=object_id, kinematics=kinematics, **about))
    return message


def _class_and_shape(detections: Detections, i: int, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the fields that detected and tracked objects share."""
    from autoware_perception_msgs.msg import ObjectClassification, Shape

    score = float(detections.scores[i])
    name = class_names[int(detections.class_ids[i])].upper()
    label = getattr(ObjectClassification, name, ObjectClassification.UNKNOWN)
    length, width, height = detections.boxes_3d[i, 3:6].tolist()
    dimensions = Vector3(x=length, y=width, z=height)
    return {
        "existence_probability": score,
        "classification": [ObjectClassification(label=label, probability=score)],
        "shape": Shape(type=Shape.BOUNDING_BOX, dimensions=dimensions),
    }


def objects_of(builder: MessageBuilder, result: Result) -> Any:
    """Return the DetectedObjects of a result, in its output frame."""
    header = builder.header(result.perception.stamp_ns, result.output_frame or result.frame_id)
    names = result.manifest.detection_classes
    return detected_objects(result.perception.detections, names, result.T_output_camera, header)


def tracked_objects_of(builder: MessageBuilder, result: Result) -> Any:
    """Return the TrackedObjects of a result with tracks, in its output frame."""
    header = builder.header(result.perception.stamp_ns, result.output_frame or result.frame_id)
    perception, names = result.perception, result.manifest.detection_classes
    assert perception.tracks is not None
    return tracked_objects(
        *(perception.detections, perception.tracks, names, result.T_output_camera, header)
    )
