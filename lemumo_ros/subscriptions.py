"""The topics that the node subscribes to."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from lemumo_core.messages.compressed_clouds import livox_cloud
from lemumo_core.messages.video import require_video
from lemumo_core.streaming.cameras import Cameras
from lemumo_ros.input_types import (
    CLOUD_TYPES,
    IMAGE_TYPES,
    VIDEO_TRANSPORTS,
    message_class,
    transport_suffix,
)
from lemumo_ros.parameters import Parameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks  # type: ignore[no-redef]

OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
"""Policies of sensor inputs that ``qos_overrides`` may change."""

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
VIDEO_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Of video: an image is decoded from those before it, so that none may be lost."""
LATCHED_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
LATCHED = " (latched)"
"""Suffix of the topic in the keys of second subscriptions, to what was published before."""
TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC_QOS = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def subscribe(node: Any, settings: Parameters, cameras: Cameras, companion: str) -> dict[str, Any]:
    """Create the subscriptions; ``qos_overrides`` may change the QoS of the sensor inputs.

    Each CameraInfo has two: many drivers publish it once and latched, which only a subscription of
    that durability receives later, and only from such publishers.

    Args:
        node: rclpy node.
        settings: parameters, for the cameras' names and transports.
        cameras: inputs whose callbacks are called.
        companion: ``lidar`` or ``thermal``.

    Returns:
        Subscriptions by topic, before remapping; with ``LATCHED`` after it, of second ones.

    Raises:
        ImportError: the package of a type, or PyAV for video, is not installed; it says how.
    """
    moving = partial(cameras.on_transforms, moving=True)
    topics: list[tuple[Any, str, Any, QoSProfile]] = [
        (TFMessage, "/tf_static", cameras.on_transforms, TF_STATIC_QOS),
        (TFMessage, "/tf", moving, TF_QOS),
    ]
    sources = {name: settings.by_camera[name].companion_source for name in cameras.inputs}
    takes_points = [name for name in cameras.inputs if sources[name] == "points"]
    if companion == "lidar" and takes_points:
        topics += _cloud_topics(settings, cameras, takes_points)
    for name, camera in cameras.inputs.items():
        prefix = f"~/input/{settings.topics(name)}"
        transport = settings.by_camera[name].image_transport
        if is_video := transport in VIDEO_TRANSPORTS:
            require_video()
        kind = message_class(IMAGE_TYPES[transport])
        on_image = cameras.notifying(camera.on_image)
        topics.append(
            (kind, image_topic(settings, name), on_image, VIDEO_QOS if is_video else SENSOR_QOS)
        )
        on_info = cameras.notifying(camera.on_camera_info)
        topics.append((CameraInfo, f"{prefix}camera_info", on_info, SENSOR_QOS))
        if companion == "thermal":
            on_thermal = cameras.notifying(camera.on_companion)
            topics.append((Image, f"{prefix}thermal", on_thermal, SENSOR_QOS))
            on_info = camera.on_companion_info
            topics.append((CameraInfo, f"{prefix}thermal_info", on_info, SENSOR_QOS))
        elif sources[name] != "points":
            on_depth = cameras.notifying(camera.on_companion)
            kind = CompressedImage if sources[name] == "compressed_depth" else Image
            topics.append((kind, depth_topic(settings, name), on_depth, SENSOR_QOS))
            on_info = camera.on_companion_info
            topics.append((CameraInfo, f"{prefix}depth_info", on_info, SENSOR_QOS))
    subscriptions = {
        topic: node.create_subscription(
            kind,
            topic,
            callback,
            copy.copy(qos),  # rclpy writes what is overridden into it
            qos_overriding_options=_overridable(topic),
            raw=kind.__name__ == "CustomMsg",
        )
        for kind, topic, callback, qos in topics
    }
    for kind, topic, callback, _ in topics:
        if kind is CameraInfo:
            subscriptions[topic + LATCHED] = node.create_subscription(
                kind,
                topic,
                callback,
                LATCHED_QOS,
                # Most publishers are not latched: that they do not match is no news.
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
    for name, camera in cameras.inputs.items():
        # The name after remapping, which may say that the images are rectified.
        camera.calibration.image_topic = subscriptions[image_topic(settings, name)].topic_name
        own = depth_topic(settings, name)
        if companion == "thermal":
            own = f"~/input/{settings.topics(name)}thermal"
        if own in subscriptions:
            camera.companion_calibration.image_topic = subscriptions[own].topic_name
    return subscriptions


def _cloud_topics(
    settings: Parameters, cameras: Cameras, names: list[str]
) -> list[tuple[Any, str, Any, QoSProfile]]:
    """Return class, topic, callback and QoS of the LiDARs that the named cameras share."""
    transport = settings.points_transport
    kind, suffix = message_class(CLOUD_TYPES[transport]), transport_suffix(transport)
    topics = []
    for sensor, lidar in enumerate(settings.lidars or ("",)):
        callback = partial(cameras.on_points, names=names, sensor=sensor)
        if transport == "livox":
            callback = partial(_on_livox, callback)
        topic = f"~/input/{lidar}/points{suffix}" if lidar else f"~/input/points{suffix}"
        topics.append((kind, topic, cameras.notifying(callback), SENSOR_QOS))
    return topics


def _on_livox(callback: Any, data: bytes) -> None:
    callback(livox_cloud(data))


def image_topic(settings: Parameters, camera: str) -> str:
    """Return the topic of a camera's images, before remapping."""
    suffix = transport_suffix(settings.by_camera[camera].image_transport)
    return f"~/input/{settings.topics(camera)}image{suffix}"


def depth_topic(settings: Parameters, camera: str) -> str:
    """Return the topic of a depth camera's images, before remapping."""
    compressed = settings.by_camera[camera].companion_source == "compressed_depth"
    transport = "/compressedDepth" if compressed else ""
    return f"~/input/{settings.topics(camera)}depth_image{transport}"


def _overridable(topic: str) -> QoSOverridingOptions | None:
    return QoSOverridingOptions(OVERRIDABLE) if topic.startswith("~") else None
