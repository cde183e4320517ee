"""The publishers of one camera's results."""

from __future__ import annotations

import importlib.util
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from lemumo_core.drawing import class_colors
from lemumo_core.frame import Frame, Perception
from lemumo_core.geometry.se3 import inverse
from lemumo_core.inference.manifest import Manifest
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_ros.parameters import Parameters
from lemumo_ros.publish import autoware
from lemumo_ros.publish.markers import markers
from lemumo_ros.publish.overlay import RateLimit, overlay_image
from lemumo_ros.publish.points import colored_points
from lemumo_ros.publish.rclpy_builder import build

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
    "points": PointCloud2,
    "markers": MarkerArray,
}


class ResultPublisher:
    """The publishers of one camera, under ``~/output/``. Only what has subscribers is built.

    Every message carries the stamp of the source image. ``depth`` and ``labels`` are views of
    the camera that ``depth_camera_info`` describes, ``points`` is that depth in the source
    image's frame, in its colours. Where autoware_perception_msgs is installed there are
    ``objects`` too.

    Args:
        node: rclpy node.
        transforms: buffer to look T_output_camera up in, where ``output_frame`` is set.
        topics: prefix of the topics' names, below ``~/output/``.
    """

    def __init__(self, node: Any, transforms: TransformBuffer, topics: str = ""):
        self._node, self._transforms = node, transforms
        kinds = TOPICS | {"overlay": CompressedImage}
        if importlib.util.find_spec("autoware_perception_msgs"):
            kinds |= {"objects": autoware.message_type()}
        self._publishers = {
            name: node.create_publisher(kind, f"~/output/{topics}{name}", OUTPUT_QOS)
            for name, kind in kinds.items()
        }
        topic = f"~/output/{topics}label_info"
        self._label_info = node.create_publisher(LabelInfo, topic, LATCHED_QOS)
        self._overlay_limit = RateLimit()

    def publish_label_info(self, manifest: Manifest, settings: Parameters) -> None:
        """Publish the label names, latched for later subscribers."""
        header = build.header(self._node.get_clock().now().nanoseconds, "")
        names, threshold = manifest.segmentation_classes, settings.score_threshold
        self._label_info.publish(build.label_info(names, threshold, header))

    def subscribed(self) -> set[str]:
        """Return the names of the outputs that have subscribers."""
        return {name for name, p in self._publishers.items() if p.get_subscription_count()}

    def publish(
        self,
        outputs: set[str],
        frame: Frame,
        perception: Perception,
        source: Header,
        manifest: Manifest,
        settings: Parameters,
    ) -> None:
        """Build all messages, then publish them, so that a fault publishes nothing.

        Args:
            outputs: names of the outputs to build.
            frame: input of the model.
            perception: its result.
            source: header of the source image.
            manifest: manifest of the model.
            settings: parameters of the node.

        Raises:
            Fault: ``missing_transform``, ``old_transform``.
        """
        found, names = perception.detections, manifest.detection_classes
        in_camera = build.header(perception.stamp_ns, source.frame_id)
        T_header_camera = inverse(frame.T_camera_header)
        output_frame, T_output_camera = settings.output_frame or source.frame_id, T_header_camera
        if output_frame != source.frame_id and outputs & {"detections_3d", "markers", "objects"}:
            T_output_header = self._transforms.lookup(
                output_frame, source.frame_id, perception.stamp_ns
            )
            T_output_camera = T_output_header @ T_header_camera
        in_output = build.header(perception.stamp_ns, output_frame)
        builders = {
            "detections_3d": lambda: build.detections_3d(found, names, T_output_camera, in_output),
            "detections_2d": lambda: build.detections_2d(found, names, in_camera),
            "depth": lambda: build.depth_image(
                perception.depth_m, settings.publish_depth_as, in_camera
            ),
            "depth_camera_info": lambda: build.camera_info(
                perception.output_camera, in_camera, frame.T_camera_header
            ),
            "labels": lambda: build.label_image(perception.labels, in_camera),
            "points": lambda: colored_points(frame, perception, in_camera),
            "markers": lambda: markers(
                found, names, class_colors(len(names)), T_output_camera, in_output
            ),
            "objects": lambda: autoware.detected_objects(found, names, T_output_camera, in_output),
            "overlay": lambda: overlay_image(frame, perception, manifest, in_camera),
        }
        if "overlay" in outputs and not self._overlay_limit.passes(settings.overlay_rate_hz):
            outputs = outputs - {"overlay"}
        messages = {name: builders[name]() for name in outputs}
        for name, message in messages.items():
            self._publishers[name].publish(message)

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._label_info):
            self._node.destroy_publisher(publisher)
