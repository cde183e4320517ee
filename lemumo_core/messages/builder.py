"""Build ROS messages from arrays and core types, whatever classes the messages have.

Bags write the dataclasses of ``rosbags``, the node publishes the classes of rclpy. Both go through
the same methods here, so one Perception gives the same message, to the byte, on either road.
Units are SI; poses are in the frame of the header (REP-103, REP-105).
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from lemumo_core.frame import Detections
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import quaternion_from_rotation

PIXELS = {
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
FIELD_TYPE_FLOAT32 = 7
"""Value of sensor_msgs/PointField.FLOAT32."""


class MessageBuilder(ABC):
    """Builds messages of the classes that a subclass provides."""

    @abstractmethod
    def new(self, kind: str, **fields: Any) -> Any:
        """Return a message of type ``package/Name``; every field must be given."""

    @abstractmethod
    def sequence(self, values: np.ndarray) -> Any:
        """Convert an array (N,) to what the message classes hold in a numeric sequence field."""

    def data(self, values: np.ndarray) -> Any:
        """Convert an array of any type, row by row, to the value of a ``uint8[] data`` field."""
        return self.sequence(np.ascontiguousarray(values).reshape(-1).view(np.uint8))

    def stamp(self, stamp_ns: int) -> Any:
        """Return a builtin_interfaces/Time."""
        sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
        return self.new("builtin_interfaces/Time", sec=sec, nanosec=nanosec)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Return a std_msgs/Header."""
        return self.new("std_msgs/Header", stamp=self.stamp(stamp_ns), frame_id=frame_id)

    def image(self, pixels: np.ndarray, encoding: str, header: Any) -> Any:
        """Return a sensor_msgs/Image.

        Args:
            pixels: (H, W) or (H, W, C) of the encoding's type; nothing is converted.
            encoding: a key of ``PIXELS``.
            header: of the source image.

        Raises:
            ValueError: the array does not fit the encoding, or the encoding is unknown.
        """
        if encoding not in PIXELS:
            raise ValueError(f"unknown encoding '{encoding}', known: {', '.join(PIXELS)}")
        dtype, channels = PIXELS[encoding]
        if pixels.dtype != dtype or pixels.shape[2:] != (() if channels == 1 else (channels,)):
            raise ValueError(f"{encoding} does not fit {pixels.dtype} of shape {pixels.shape}")
        height, width = pixels.shape[:2]
        return self.new(
            "sensor_msgs/Image",
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=int(sys.byteorder == "big"),
            step=width * channels * pixels.itemsize,
            data=self.data(pixels),
        )

    def jpeg(self, image: np.ndarray, quality: int, header: Any) -> Any:
        """Return a sensor_msgs/CompressedImage of uint8 (H, W, 3) RGB; quality is 1 to 100."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return self.new(
            "sensor_msgs/CompressedImage",
            header=header,
            format="rgb8; jpeg compressed bgr8",  # as image_transport writes it
            data=self.data(encoded),
        )

    def depth_image(self, depth_m: np.ndarray, encoding: str, header: Any) -> Any:
        """Return a depth image as REP-118 defines it.

        Args:
            depth_m: floating (H, W), metres along the optical axis, NaN = unknown.
            encoding: ``32FC1``, metres with NaN for unknown; or ``16UC1``, rounded millimetres
                with 0 for unknown, which is all that is not finite, negative or past 65.535 m.
            header: of the source image.

        Raises:
            ValueError: another encoding.
        """
        if encoding == "32FC1":
            return self.image(depth_m.astype(np.float32, copy=False), encoding, header)
        if encoding != "16UC1":
            raise ValueError(f"depth is 32FC1 or 16UC1, not '{encoding}'")
        with np.errstate(invalid="ignore", over="ignore"):
            millimetres = np.rint(depth_m * np.float32(1000))
            known = (millimetres >= 0) & (millimetres <= 65535)
        return self.image(np.where(known, millimetres, 0).astype(np.uint16), encoding, header)

    def label_image(self, labels: np.ndarray, header: Any) -> Any:
        """Return class ids uint8 (H, W) as mono8; 255 = unlabelled (vision_msgs/LabelInfo)."""
        return self.image(labels, "mono8", header)

    def label_info(self, names: Sequence[str], threshold: float, header: Any) -> Any:
        """Return a vision_msgs/LabelInfo: names of class ids 0, 1, ... and the score threshold."""
        classes = [
            self.new("vision_msgs/VisionClass", class_id=i, class_name=name)
            for i, name in enumerate(names)
        ]
        return self.new(
            "vision_msgs/LabelInfo", header=header, class_map=classes, threshold=float(threshold)
        )

    def camera_info(
        self, camera: Camera, header: Any, T_camera_header: np.ndarray | None = None
    ) -> Any:
        """Return the sensor_msgs/CameraInfo of an image: R and P = K [I | t] of a transform.

        ``T_camera_header`` is that of ``Frame``; None, the identity. A pinhole becomes plumb_bob
        with five zeros, and plumb_bob always has five coefficients, as every ROS consumer
        understands.
        """
        model, distortion = camera.model, camera.distortion
        if model in ("pinhole", "plumb_bob"):
            model, distortion = "plumb_bob", (*distortion, *(0.0,) * (5 - len(distortion)))
        T = np.eye(4) if T_camera_header is None else T_camera_header
        full_image = dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0)
        return self.new(
            "sensor_msgs/CameraInfo",
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model=model,
            d=self.sequence(np.array(distortion, np.float64)),
            k=camera.K.astype(np.float64).reshape(9),
            r=T[:3, :3].reshape(9),
            p=(camera.K @ np.hstack([np.eye(3), T[:3, 3:]])).reshape(12),
            binning_x=0,
            binning_y=0,
            roi=self.new("sensor_msgs/RegionOfInterest", **full_image, do_rectify=False),
        )

    def point_cloud(self, points: np.ndarray, names: Sequence[str], header: Any) -> Any:
        """Return a sensor_msgs/PointCloud2 of float32 (N, C) and the names of its C columns."""
        fields = [
            self.new(
                "sensor_msgs/PointField",
                **{"name": name, "offset": 4 * i, "datatype": FIELD_TYPE_FLOAT32, "count": 1},
            )
            for i, name in enumerate(names)
        ]
        return self.new(
            "sensor_msgs/PointCloud2",
            header=header,
            height=1,
            width=len(points),
            fields=fields,
            is_bigendian=sys.byteorder == "big",
            point_step=4 * len(names),
            row_step=4 * points.size,
            data=self.data(points),
            is_dense=bool(np.isfinite(points[:, :3]).all()),
        )

    def transforms(self, poses: Mapping[str, np.ndarray], header: Any) -> Any:
        """Return a tf2_msgs/TFMessage of child frames and their (4, 4) T_parent_child.

        The frame of ``header`` is the parent.
        """
        transforms = []
        for child, T in poses.items():
            (orientation,) = self._quaternions(T[None, :3, :3])
            translation = self.xyz("Vector3", T[:3, 3].tolist())
            transform = self.new(
                "geometry_msgs/Transform", translation=translation, rotation=orientation
            )
            transforms.append(
                self.new(
                    "geometry_msgs/TransformStamped",
                    **{"header": header, "child_frame_id": child, "transform": transform},
                )
            )
        return self.new("tf2_msgs/TFMessage", transforms=transforms)

    def detections_3d(
        self,
        detections: Detections,
        class_names: Sequence[str],
        T_output_camera: np.ndarray,
        header: Any,
        ids: Sequence[str] = (),
    ) -> Any:
        """Return a vision_msgs/Detection3DArray in the output frame.

        A box's own axes are x forward (length), y left (width), z up (height).

        Args:
            detections: boxes in the camera's optical frame.
            class_names: names by class id; published as ``class_id``.
            T_output_camera: (4, 4).
            header: stamp of the source image, output frame.
            ids: one a detection, the same for one object over time; none: all are empty.
        """
        poses = self.box_poses(detections.boxes_3d, T_output_camera)
        messages = []
        for i, (pose, box) in enumerate(zip(poses, detections.boxes_3d.tolist(), strict=True)):
            size = self.xyz("Vector3", box[3:6])
            bbox = self.new("vision_msgs/BoundingBox3D", center=pose, size=size)
            results = [self._hypothesis(detections, i, class_names, self._without_covariance(pose))]
            about = {"header": header, "results": results, "id": ids[i] if ids else ""}
            messages.append(self.new("vision_msgs/Detection3D", bbox=bbox, **about))
        return self.new("vision_msgs/Detection3DArray", header=header, detections=messages)

    def detections_2d(
        self,
        detections: Detections,
        class_names: Sequence[str],
        header: Any,
        ids: Sequence[str] = (),
    ) -> Any:
        """Return a vision_msgs/Detection2DArray, pixels of the source image.

        Empty boxes, of objects that the image does not show, are left out.

        Args:
            detections: K objects; their ``boxes_2d`` are used.
            class_names: names by class id; published as ``class_id``.
            header: of the source image.
            ids: as for ``detections_3d``.
        """
        no_rotation = self.new("geometry_msgs/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
        origin = self.xyz("Point", (0.0, 0.0, 0.0))
        no_pose = self._without_covariance(
            self.new("geometry_msgs/Pose", position=origin, orientation=no_rotation)
        )
        messages = []
        for i, (left, top, right, bottom) in enumerate(detections.boxes_2d.tolist()):
            if right <= left or bottom <= top:
                continue
            middle = self.new("vision_msgs/Point2D", x=(left + right) / 2, y=(top + bottom) / 2)
            center = self.new("vision_msgs/Pose2D", position=middle, theta=0.0)
            sizes = {"size_x": right - left, "size_y": bottom - top}
            bbox = self.new("vision_msgs/BoundingBox2D", center=center, **sizes)
            results = [self._hypothesis(detections, i, class_names, no_pose)]
            about = {"header": header, "results": results, "id": ids[i] if ids else ""}
            messages.append(self.new("vision_msgs/Detection2D", bbox=bbox, **about))
        return self.new("vision_msgs/Detection2DArray", header=header, detections=messages)

    def box_poses(self, boxes: np.ndarray, T_output_camera: np.ndarray) -> Iterator[Any]:
        """Yield a geometry_msgs/Pose in the output frame for each of the boxes (K, 7)."""
        R, t = T_output_camera[:3, :3], T_output_camera[:3, 3]
        positions = boxes[:, :3].astype(np.float64) @ R.T + t
        orientations = self._quaternions(R @ box_rotation(boxes[:, 6]))
        for position, orientation in zip(positions.tolist(), orientations, strict=True):
            point = self.xyz("Point", position)
            yield self.new("geometry_msgs/Pose", position=point, orientation=orientation)

    def _hypothesis(
        self, detections: Detections, i: int, class_names: Sequence[str], pose: Any
    ) -> Any:
        name, score = class_names[int(detections.class_ids[i])], float(detections.scores[i])
        hypothesis = self.new("vision_msgs/ObjectHypothesis", class_id=name, score=score)
        return self.new("vision_msgs/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)

    def _without_covariance(self, pose: Any) -> Any:
        """Return a geometry_msgs/PoseWithCovariance whose covariance is unknown, 0."""
        return self.new("geometry_msgs/PoseWithCovariance", pose=pose, covariance=np.zeros(36))

    def xyz(self, kind: str, vector: Sequence[float]) -> Any:
        """Return a geometry_msgs Point or Vector3."""
        x, y, z = vector
        return self.new(f"geometry_msgs/{kind}", x=x, y=y, z=z)

    def _quaternions(self, R: np.ndarray) -> list[Any]:
        return [
            self.new("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)
            for w, x, y, z in quaternion_from_rotation(R).tolist()
        ]
