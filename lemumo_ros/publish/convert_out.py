"""Core types to ROS messages.

Poses are published in the header's frame, units are SI (REP-103). Image data always goes through
``fill``: rclpy copies a NumPy array that is assigned to ``msg.data`` number by number, which takes
half a second for 1080p. Nested messages are filled in place and like ones are copied: a constructor
makes a default of every field, even of those that it is given.
"""

from __future__ import annotations

import array
import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, Vector3
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)
from visualization_msgs.msg import Marker, MarkerArray

from lemumo_core.frame import Detections
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import quaternion_from_rotation

_PIXELS = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}
"""Encoding to the type and number of values per pixel."""

_BOX_ALPHA = 0.35
_TEXT_HEIGHT_M = 0.6
_TEXT_GAP_M = 0.5


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds to a stamp."""
    sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Header of a stamp (nanoseconds) and a frame."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def fill(msg: Any, values: np.ndarray) -> None:
    """Copy an array of any type into ``msg.data``, row by row, in 0.5 ms for 1080p."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    msg.data = data


def image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """An image message.

    Args:
        pixels: (H, W) or (H, W, C) of the encoding's type; nothing is converted.
        encoding: rgb8, bgr8, rgba8, bgra8, mono8, mono16, 16UC1 or 32FC1.
        header: of the source image.

    Raises:
        ValueError: the array does not fit the encoding, or that is unknown.
    """
    if encoding not in _PIXELS:
        raise ValueError(f"unknown encoding '{encoding}', known: {', '.join(_PIXELS)}")
    dtype, channels = _PIXELS[encoding]
    if pixels.dtype != dtype or pixels.shape[2:] != (() if channels == 1 else (channels,)):
        raise ValueError(f"{encoding} does not fit {pixels.dtype} of shape {pixels.shape}")
    height, width = pixels.shape[:2]
    msg = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=width * channels * pixels.itemsize,
    )
    fill(msg, pixels)
    return msg


def depth_image(depth_m: np.ndarray, encoding: str, header: Header) -> Image:
    """A depth image as REP-118 defines it.

    Args:
        depth_m: floating (H, W), metres along the optical axis, NaN = unknown.
        encoding: ``32FC1``, metres with NaN for unknown; or ``16UC1``, rounded millimetres with 0
            for unknown, which is all that is not finite, negative or past 65.535 m.
        header: of the source image.

    Raises:
        ValueError: another encoding.
    """
    if encoding == "32FC1":
        return image(depth_m.astype(np.float32, copy=False), encoding, header)
    if encoding != "16UC1":
        raise ValueError(f"depth is 32FC1 or 16UC1, not '{encoding}'")
    with np.errstate(invalid="ignore", over="ignore"):
        millimetres = np.rint(depth_m * np.float32(1000))
        known = (millimetres >= 0) & (millimetres <= 65535)
    return image(np.where(known, millimetres, 0).astype(np.uint16), encoding, header)


def camera_info(camera: Camera, header: Header) -> CameraInfo:
    """The CameraInfo twin of an image. P = [K | 0], R = identity: one camera, as it is.

    A pinhole becomes plumb_bob with five zeros, and plumb_bob always carries five coefficients,
    as every ROS consumer understands.
    """
    model, distortion = camera.model, camera.distortion
    if model in ("pinhole", "plumb_bob"):
        model, distortion = "plumb_bob", (*distortion, *(0.0,) * (5 - len(distortion)))
    K = camera.K
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=model,
        d=[float(d) for d in distortion],
        k=K.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([K, np.zeros((3, 1))]).ravel().tolist(),
    )


def label_image(labels: np.ndarray, header: Header) -> Image:
    """Class ids uint8 (H, W) as mono8; 255 = unlabelled (vision_msgs/LabelInfo)."""
    return image(labels, "mono8", header)


def label_info(names: Sequence[str], threshold: float, header: Header) -> LabelInfo:
    """The names behind class ids 0, 1, ... and the score threshold in use."""
    classes = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))


def detections_3d(
    detections: Detections,
    class_names: Sequence[str],
    T_output_camera: np.ndarray,
    header: Header,
) -> Detection3DArray:
    """3D detections in the output frame.

    A box's own axes are x forward (length), y left (width), z up (height).

    Args:
        detections: boxes in the camera's optical frame.
        class_names: by class id; published as ``class_id``.
        T_output_camera: (4, 4).
        header: the source image's stamp, the output frame.
    """
    msg = Detection3DArray(header=header)
    poses = box_poses(detections.boxes_3d, T_output_camera)
    for i, (pose, box) in enumerate(zip(poses, detections.boxes_3d.tolist(), strict=True)):
        detection, result = Detection3D(), ObjectHypothesisWithPose()
        detection.header = header
        detection.bbox.center = result.pose.pose = pose
        size = detection.bbox.size
        size.x, size.y, size.z = box[3:6]
        result.hypothesis = _hypothesis(detections, i, class_names)
        detection.results = [result]
        msg.detections.append(detection)
    return msg


def detections_2d(
    detections: Detections, class_names: Sequence[str], header: Header
) -> Detection2DArray:
    """2D detections in pixels of the source image; those that it does not show are left out.

    Args:
        detections: their ``boxes_2d`` are taken.
        class_names: by class id; published as ``class_id``.
        header: of the source image.
    """
    msg = Detection2DArray(header=header)
    for i, (left, top, right, bottom) in enumerate(detections.boxes_2d.tolist()):
        if right <= left or bottom <= top:
            continue
        center = Pose2D(position=Point2D(x=(left + right) / 2, y=(top + bottom) / 2))
        msg.detections.append(
            Detection2D(
                header=header,
                bbox=BoundingBox2D(center=center, size_x=right - left, size_y=bottom - top),
                results=[
                    ObjectHypothesisWithPose(hypothesis=_hypothesis(detections, i, class_names))
                ],
            )
        )
    return msg


def markers(
    detections: Detections,
    class_names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    T_output_camera: np.ndarray,
    header: Header,
    lifetime_s: float = 0.5,
) -> MarkerArray:
    """Boxes to look at: all old ones deleted, then a translucent cube and a text for each.

    Args:
        detections, class_names, T_output_camera, header: as for ``detections_3d``.
        colors: RGB, 0 to 255, by class id.
        lifetime_s: how long a viewer keeps them when no others follow.
    """
    lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
    common = {"header": header, "action": Marker.ADD, "lifetime": lifetime}
    white = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    scale = Vector3(z=_TEXT_HEIGHT_M)
    a_box = Marker(ns="boxes", type=Marker.CUBE, **common)
    a_text = Marker(ns="labels", type=Marker.TEXT_VIEW_FACING, color=white, scale=scale, **common)
    fills = [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=_BOX_ALPHA) for r, g, b in colors]
    msg = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    count = len(detections.boxes_3d)
    tops = detections.boxes_3d.astype(np.float64)
    tops[:, 1] -= tops[:, 5] / 2 + _TEXT_GAP_M  # y points down in the camera frame
    text_poses = box_poses(tops, T_output_camera)
    poses = box_poses(detections.boxes_3d, T_output_camera)
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


def box_poses(boxes: np.ndarray, T_output_camera: np.ndarray) -> Iterator[Pose]:
    """Poses in the output frame of boxes (K, 7) in the camera's."""
    R, t = T_output_camera[:3, :3], T_output_camera[:3, 3]
    positions = boxes[:, :3].astype(np.float64) @ R.T + t
    quaternions = quaternion_from_rotation(R @ box_rotation(boxes[:, 6]))
    for at, (w, x, y, z) in zip(positions.tolist(), quaternions.tolist(), strict=True):
        pose = Pose()
        position, orientation = pose.position, pose.orientation
        position.x, position.y, position.z = at
        orientation.w, orientation.x, orientation.y, orientation.z = w, x, y, z
        yield pose


def _hypothesis(detections: Detections, i: int, class_names: Sequence[str]) -> ObjectHypothesis:
    return ObjectHypothesis(
        class_id=class_names[int(detections.class_ids[i])], score=float(detections.scores[i])
    )
