"""Message classes of the node's inputs, by transport."""

from __future__ import annotations

import importlib
from typing import Any

from lemumo_core.extras import missing_package
from lemumo_core.messages.compressed_clouds import COMPRESSED_CLOUD, LIVOX_TYPES
from lemumo_core.messages.video import FFMPEG_PACKET, FOXGLOVE_VIDEO

IMAGE_TYPES = {
    "raw": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "ffmpeg": FFMPEG_PACKET,
    "foxglove": FOXGLOVE_VIDEO,
}
"""Transport of images to the type of its messages."""
VIDEO_TRANSPORTS = ("ffmpeg", "foxglove")
CLOUD_TYPES = {
    "raw": "sensor_msgs/msg/PointCloud2",
    "draco": COMPRESSED_CLOUD,
    "zlib": COMPRESSED_CLOUD,
    "zstd": COMPRESSED_CLOUD,
    "livox": LIVOX_TYPES[0],
}
"""Transport of point clouds to the type of its messages."""
WITHOUT_SUFFIX = ("raw", "livox")


def transport_suffix(transport: str) -> str:
    """Return what image_transport and point_cloud_transport put behind a topic's name."""
    return "" if transport in WITHOUT_SUFFIX else f"/{transport}"


def transport_of(types: dict[str, str], kind: str, suffix: str = "") -> str:
    """Return the transport whose messages are of a type.

    Args:
        types: ``IMAGE_TYPES`` or ``CLOUD_TYPES``.
        kind: the type.
        suffix: last part of the topic's name, where several transports have the type.
    """
    found = [transport for transport, of in types.items() if of == kind]
    if kind in LIVOX_TYPES:
        return "livox"
    return suffix if suffix in found else found[0]


def message_class(kind: str) -> Any:
    """Return the class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        ImportError: its package is not installed; the message says how.
    """
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except ModuleNotFoundError as error:
        raise ImportError(missing_package(error), name=error.name) from error
