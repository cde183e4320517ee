"""Companions of an image as messages, converted once, however many cameras use them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lemumo_core.messages.compressed_clouds import to_point_cloud
from lemumo_core.messages.depth_images import depth_to_array
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.streaming.sync import Stamped


class PointCloud(Stamped):
    """A PointCloud2, or a CompressedPointCloud2."""

    @functools.cached_property
    def cloud(self) -> Any:
        """The PointCloud2 (``to_point_cloud``)."""
        return to_point_cloud(self.message)

    @functools.cached_property
    def points(self) -> np.ndarray:
        """Points as ``points_to_array`` returns them: float32 (N, >= 3), metres, LiDAR frame."""
        return points_to_array(self.cloud)


class DepthImage(Stamped):
    """The Image or CompressedImage of a depth camera."""

    @functools.cached_property
    def depth_m(self) -> np.ndarray:
        """Depth as ``depth_to_array`` returns it: float32 (H, W), metres, NaN unknown."""
        return depth_to_array(self.message)


def stamped_companion(
    companion: str, message: Any, arrival_ns: int, clock_ns: int | None = None
) -> Stamped:
    """Return a message of a companion with its times.

    Args:
        companion: ``lidar`` or ``thermal``.
        message: point cloud or depth image; thermal image.
        arrival_ns: when it arrived, as of ``Stamped``.
        clock_ns: likewise.
    """
    kind = Stamped
    if companion == "lidar":
        kind = PointCloud if hasattr(message, "fields") else DepthImage
    return kind(stamp_to_ns(message.header.stamp), arrival_ns, message, clock_ns)
