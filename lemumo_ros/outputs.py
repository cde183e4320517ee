"""Perceptions to published messages."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from lemumo_core.drawing import class_colours
from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.package import Manifest
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_ros import convert_out
from lemumo_ros.overlay import draw_overlay
from lemumo_ros.parameters import Parameters

OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
TOPICS = {
    "detections_3d": Detection3DArray,
    "detections_2d": Detection2DArray,
    "depth": Image,
    "depth_camera_info": CameraInfo,
    "labels": Image,
    "markers": MarkerArray,
}
JPEG_QUALITY = 85


class Outputs:
    """The publishers of a perception node, under ``~/output/``.

    Every message carries the stamp of the source image. ``depth`` and ``labels`` are views of
    the camera that ``depth_camera_info`` describes.
    """

    def __init__(self, node: Any, manifest: Manifest, settings: Parameters):
        self._node, self._manifest, self._settings = node, manifest, settings
        self._publishers = {
            name: node.create_publisher(kind, f"~/output/{name}", OUTPUT_QOS)
            for name, kind in TOPICS.items()
        }
        self._overlay = node.create_publisher(CompressedImage, "~/output/overlay", OUTPUT_QOS)
        self._label_info = node.create_publisher(LabelInfo, "~/output/label_info", LATCHED_QOS)
        self._last_overlay_s = -np.inf

    def publish_label_info(self) -> None:
        """Publish the label names, once for all subscribers to come."""
        header = convert_out.header(self._node.get_clock().now().nanoseconds, "")
        names, threshold = self._manifest.segmentation_classes, self._settings.score_threshold
        self._label_info.publish(convert_out.label_info(names, threshold, header))

    def publish(
        self, frame: Frame, perception: Perception, frame_id: str, transforms: TransformBuffer
    ) -> None:
        """Build all messages, then publish them, so that a fault publishes nothing.

        Args:
            frame_id: of the source image.
            transforms: gives T_output_camera where ``output_frame`` is set.

        Raises:
            Fault: ``missing_transform``.
        """
        settings, manifest = self._settings, self._manifest
        output_frame = settings.output_frame or frame_id
        T_output_camera = np.eye(4)
        if output_frame != frame_id:
            T_output_camera = transforms.lookup(output_frame, frame_id)
        in_camera = convert_out.header(perception.stamp_ns, frame_id)
        in_output = convert_out.header(perception.stamp_ns, output_frame)
        found, names = perception.detections, manifest.detection_classes
        messages = {
            "detections_3d": convert_out.detections_3d(found, names, T_output_camera, in_output),
            "detections_2d": convert_out.detections_2d(found, names, in_camera),
            "depth": convert_out.depth_image(
                perception.depth_m, settings.publish_depth_as, in_camera
            ),
            "depth_camera_info": convert_out.camera_info(perception.output_camera, in_camera),
            "labels": convert_out.label_image(perception.labels, in_camera),
            "markers": convert_out.markers(
                found, names, class_colours(len(names)), T_output_camera, in_output
            ),
        }
        for name, message in messages.items():
            self._publishers[name].publish(message)
        self._publish_overlay(frame, perception, in_camera)

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._overlay, self._label_info):
            self._node.destroy_publisher(publisher)

    def _publish_overlay(self, frame: Frame, perception: Perception, header: Any) -> None:
        rate = self._settings.overlay_rate_hz
        now_s = time.monotonic()
        if rate <= 0 or now_s - self._last_overlay_s < 1.0 / rate:
            return
        if not self._overlay.get_subscription_count():
            return
        self._last_overlay_s = now_s
        picture = draw_overlay(frame, perception, self._manifest)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        message = CompressedImage(header=header, format="jpeg")
        convert_out.fill(message, data)
        self._overlay.publish(message)
