"""Builds the messages of a bag without ROS, as ``rosbags`` dataclasses.

The counterpart for a running node, with rclpy's classes, is ``convert_out``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import quaternion_from_rotation

try:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore
except ModuleNotFoundError:
    pass  # said by require_rosbags, when a bag is really to be written

JPEG_QUALITY = 95
FLOAT32 = 7
"""Of sensor_msgs/PointField's datatypes."""


class MessageBuilder:
    """Arrays and core types to messages of ``typestore``.

    Attributes:
        typestore: ROS 2 Kilted's types, with vision_msgs where ``has_vision_msgs``.
    """

    def __init__(self) -> None:
        self.typestore: Typestore = get_typestore(Stores.ROS2_KILTED)
        self.has_vision_msgs = register_vision_msgs(self.typestore)

    def new(self, kind: str, **fields: Any) -> Any:
        """A message ``package/Name``."""
        return self.typestore.types[kind.replace("/", "/msg/")](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        time = self.new("builtin_interfaces/Time", sec=sec, nanosec=nanosec)
        return self.new("std_msgs/Header", stamp=time, frame_id=frame_id)

    def image(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/Image: rgb8 of uint8 (H, W, 3); mono8, mono16 or 32FC1 of uint8, uint16 or
        float32 (H, W)."""
        gray = {"uint8": "mono8", "uint16": "mono16", "float32": "32FC1"}
        return self.new(
            "sensor_msgs/Image",
            header=self.header(stamp_ns, frame_id),
            height=image.shape[0],
            width=image.shape[1],
            encoding="rgb8" if image.ndim == 3 else gray[image.dtype.name],
            is_bigendian=0,
            step=image[0].nbytes,
            data=np.ascontiguousarray(image).reshape(-1).view(np.uint8),
        )

    def jpeg(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CompressedImage of uint8 (H, W, 3) RGB."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return self.new(
            "sensor_msgs/CompressedImage",
            header=self.header(stamp_ns, frame_id),
            format="rgb8; jpeg compressed bgr8",
            data=data.reshape(-1),
        )

    def camera_info(self, camera: Camera, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CameraInfo; a pinhole is a plumb_bob without distortion."""
        pinhole = camera.model == "pinhole"
        K = camera.K
        return self.new(
            "sensor_msgs/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob" if pinhole else camera.model,
            d=np.array([0.0] * 5 if pinhole else camera.distortion),
            k=K.reshape(9),
            r=np.eye(3).reshape(9),
            p=np.hstack([K, np.zeros((3, 1))]).reshape(12),
            binning_x=0,
            binning_y=0,
            roi=self.new(
                "sensor_msgs/RegionOfInterest",
                x_offset=0,
                y_offset=0,
                height=0,
                width=0,
                do_rectify=False,
            ),
        )

    def points(self, points: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/PointCloud2 x, y, z, intensity of float32 (N, >=3); intensity is 0 where
        there is none, columns after it are left out."""
        cloud = np.zeros((len(points), 4), np.float32)
        columns = min(4, points.shape[1])
        cloud[:, :columns] = points[:, :columns]
        return self.new(
            "sensor_msgs/PointCloud2",
            header=self.header(stamp_ns, frame_id),
            height=1,
            width=len(cloud),
            fields=[
                self.new(
                    "sensor_msgs/PointField", name=name, offset=4 * i, datatype=FLOAT32, count=1
                )
                for i, name in enumerate(("x", "y", "z", "intensity"))
            ],
            is_bigendian=False,
            point_step=16,
            row_step=cloud.nbytes,
            data=cloud.reshape(-1).view(np.uint8),
            is_dense=bool(np.isfinite(cloud[:, :3]).all()),
        )

    def transforms(self, parent: str, poses: dict[str, np.ndarray], stamp_ns: int) -> Any:
        """tf2_msgs/TFMessage of child frames by name: (4, 4) T_parent_child."""
        return self.new(
            "tf2_msgs/TFMessage",
            transforms=[
                self.new(
                    "geometry_msgs/TransformStamped",
                    header=self.header(stamp_ns, parent),
                    child_frame_id=child,
                    transform=self.new(
                        "geometry_msgs/Transform",
                        translation=self.xyz("Vector3", T[:3, 3]),
                        rotation=self.quaternion(T[:3, :3]),
                    ),
                )
                for child, T in poses.items()
            ],
        )

    def detections(
        self,
        boxes: np.ndarray,
        names: tuple[str, ...],
        stamp_ns: int,
        frame_id: str,
        scores: np.ndarray | None = None,
    ) -> Any:
        """vision_msgs/Detection3DArray: size x, y, z = length, width, height, the orientation turns
        body axes (x forward, z up) into the box's.

        Args:
            boxes: (K, 7) in the frame of the header, a camera's optical one.
            names: K class names.
            scores: (K,); None: truth, all 1.
        """
        header = self.header(stamp_ns, frame_id)
        scores = np.ones(len(names)) if scores is None else scores
        found = []
        for box, name, score in zip(boxes.astype(np.float64), names, scores, strict=True):
            pose = self.new(
                "geometry_msgs/Pose",
                position=self.xyz("Point", box[:3]),
                orientation=self.quaternion(box_rotation(box[6])),
            )
            size = self.xyz("Vector3", box[3:6])
            found.append(
                self.new(
                    "vision_msgs/Detection3D",
                    header=header,
                    results=[self._hypothesis(name, score, pose)],
                    bbox=self.new("vision_msgs/BoundingBox3D", center=pose, size=size),
                    id="",
                )
            )
        return self.new("vision_msgs/Detection3DArray", header=header, detections=found)

    def detections_2d(
        self,
        boxes: np.ndarray,
        names: tuple[str, ...],
        stamp_ns: int,
        frame_id: str,
        scores: np.ndarray,
    ) -> Any:
        """vision_msgs/Detection2DArray of boxes (K, 4) x_min, y_min, x_max, y_max, pixels; empty
        ones are left out."""
        header = self.header(stamp_ns, frame_id)
        nowhere = self.new(
            "geometry_msgs/Pose",
            position=self.xyz("Point", np.zeros(3)),
            orientation=self.quaternion(np.eye(3)),
        )
        found = []
        for box, name, score in zip(boxes.astype(np.float64), names, scores, strict=True):
            width, height = (box[2:] - box[:2]).tolist()
            if width <= 0 or height <= 0:
                continue
            x, y = ((box[:2] + box[2:]) / 2).tolist()
            center = self.new(
                "vision_msgs/Pose2D", position=self.new("vision_msgs/Point2D", x=x, y=y), theta=0.0
            )
            found.append(
                self.new(
                    "vision_msgs/Detection2D",
                    header=header,
                    results=[self._hypothesis(name, score, nowhere)],
                    bbox=self.new(
                        "vision_msgs/BoundingBox2D", center=center, size_x=width, size_y=height
                    ),
                    id="",
                )
            )
        return self.new("vision_msgs/Detection2DArray", header=header, detections=found)

    def label_info(
        self, names: tuple[str, ...], threshold: float, stamp_ns: int, frame_id: str
    ) -> Any:
        """vision_msgs/LabelInfo: the names behind label ids 0, 1, ..."""
        classes = [
            self.new("vision_msgs/VisionClass", class_id=i, class_name=name)
            for i, name in enumerate(names)
        ]
        header = self.header(stamp_ns, frame_id)
        return self.new(
            "vision_msgs/LabelInfo", header=header, class_map=classes, threshold=threshold
        )

    def _hypothesis(self, name: str, score: float, pose: Any) -> Any:
        return self.new(
            "vision_msgs/ObjectHypothesisWithPose",
            hypothesis=self.new("vision_msgs/ObjectHypothesis", class_id=name, score=float(score)),
            pose=self.new("geometry_msgs/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        )

    def xyz(self, kind: str, vector: np.ndarray) -> Any:
        """geometry_msgs/Point or Vector3."""
        x, y, z = vector.tolist()
        return self.new(f"geometry_msgs/{kind}", x=x, y=y, z=z)

    def quaternion(self, R: np.ndarray) -> Any:
        """geometry_msgs/Quaternion of a rotation matrix."""
        w, x, y, z = quaternion_from_rotation(R)
        return self.new("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)


def register_vision_msgs(typestore: Typestore) -> bool:
    """Teach the typestore vision_msgs from the .msg files of this checkout or of an installed
    ROS; False where there are none."""
    shares = [Path(p) / "share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    for root in [Path(__file__).resolve().parents[2] / "interfaces", *shares]:
        types: dict[str, Any] = {}
        for file in sorted((root / "vision_msgs" / "msg").glob("*.msg")):
            types.update(get_types_from_msg(file.read_text(), f"vision_msgs/msg/{file.stem}"))
        if types:
            typestore.register(types)
            return True
    return False
