"""The publishers of one camera's results."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Set
from functools import partial
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.messages.transforms import WAIT_NS, TransformBuffer
from lemumo_core.streaming.occupancy import GridOptions, occupancy_grid
from lemumo_core.streaming.outputs import BUILDERS, DRAWN, OVERLAYS, Result
from lemumo_ros.parameters import Parameters
from lemumo_ros.publish import autoware
from lemumo_ros.publish.rate_limit import RateLimit
from lemumo_ros.publish.rclpy_builder import build

OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
TOPICS = {
    "detections_3d": Detection3DArray,
    "detections_2d": Detection2DArray,
    "depth/image_raw": Image,
    "depth/camera_info": CameraInfo,
    "labels": Image,
    "labels_colored": Image,
    "points": PointCloud2,
    "points_labeled": PointCloud2,
    "markers": MarkerArray,
    "overlay": Image,
    "overlay/compressed": CompressedImage,
}
"""Outputs below ``~/output/``; ``lemumo_core.streaming.outputs`` says what builds each."""
IN_OUTPUT_FRAME = {"detections_3d", "markers", "objects", "tracked_objects", "occupancy"}
"""Outputs that need the transform to ``output_frame``."""


class ResultPublisher:
    """The publishers of one camera, under ``~/output/``. Only what has subscribers is built.

    Every message carries the stamp of the source image. Depth and labels are views of the camera
    that ``depth/camera_info`` describes, ``points`` is that depth in the source image's frame, in
    its colours, ``points_labeled`` the LiDAR's returns there with colour and class. Where
    autoware_perception_msgs is installed there are ``objects`` too and, of tracks,
    ``tracked_objects``; and where nav_msgs is, ``occupancy``.

    Args:
        node: rclpy node.
        transforms: buffer to look up the transform to ``output_frame`` in, where that is set.
        topics: prefix of the topics' names, below ``~/output/``.
        tracking: whether results have tracks.
        labeler: 3D network that labels ``points_labeled``; None takes the label map's classes.
    """

    def __init__(
        self,
        node: Any,
        transforms: TransformBuffer,
        topics: str = "",
        tracking: bool = False,
        labeler: PointLabeler | None = None,
    ):
        self._node, self._transforms, self._labeler = node, transforms, labeler
        kinds = dict(TOPICS)
        self._builders = dict(BUILDERS)
        if importlib.util.find_spec("nav_msgs"):
            from nav_msgs.msg import OccupancyGrid

            kinds |= {"occupancy": OccupancyGrid}
        if importlib.util.find_spec("autoware_perception_msgs"):
            kinds |= {"objects": autoware.message_type()}
            self._builders |= {"objects": autoware.objects_of}
            if tracking:
                kinds |= {"tracked_objects": autoware.tracked_message_type()}
                self._builders |= {"tracked_objects": autoware.tracked_objects_of}
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
    ) -> Callable[[], None] | None:
        """Build all messages, then publish them, so that a fault publishes nothing.

        What a 3D network labels comes after all that needs no network.

        Args:
            outputs: names of the outputs to build.
            frame: input of the model.
            perception: its result.
            source: header of the source image.
            manifest: manifest of the model.
            settings: parameters of the node.

        Returns:
            What builds and publishes the outputs that are drawn for people, to be called in any
            thread; None where there are none.

        Raises:
            Fault: ``missing_transform``, ``old_transform``.
        """
        output_frame = settings.output_frame or source.frame_id
        T_output_header = None
        if output_frame != source.frame_id and outputs & IN_OUTPUT_FRAME:
            T_output_header = self._transforms.lookup(
                output_frame, source.frame_id, perception.stamp_ns, WAIT_NS / 1e9
            )
        result = Result(
            perception,
            manifest,
            source.frame_id,
            frame.T_camera_header,
            output_frame,
            T_output_header,
            settings.publish_depth_as,
            frame,
            self._labeler,
        )
        if "occupancy" in outputs and not settings.output_frame:
            outputs = outputs - {"occupancy"}
            self._node.get_logger().warning(
                "occupancy needs output_frame, with z up and its origin on the ground",
                throttle_duration_sec=5.0,
            )
        grid = GridOptions(settings.occupancy_resolution_m, settings.occupancy_reach_m)
        builders: dict[str, Any] = {
            **self._builders,
            "occupancy": partial(occupancy_grid, options=grid),
        }
        drawn = outputs & set(DRAWN)
        if drawn & set(OVERLAYS) and not self._overlay_limit.passes(settings.overlay_rate_hz):
            drawn -= set(OVERLAYS)
        labeled = outputs & {"points_labeled"} if self._labeler else set()
        for names in (outputs - labeled - set(DRAWN), labeled):
            self._build_and_publish(names, builders, result)
        return partial(self._build_and_publish, drawn, builders, result) if drawn else None

    def _build_and_publish(self, names: Set[str], builders: dict[str, Any], result: Result) -> None:
        messages = {name: builders[name](build, result) for name in names}
        for name, message in messages.items():
            self._publishers[name].publish(message)

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._label_info):
            self._node.destroy_publisher(publisher)
