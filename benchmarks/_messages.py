"""Sensor messages for the benchmarks of the node."""

from __future__ import annotations

from typing import Any

import numpy as np

from lemumo_core.geometry.camera import Camera
from lemumo_ros.publish.rclpy_builder import build


def sensor_messages(camera: Camera, points: int) -> tuple[Any, Any, Any]:
    """Image, CameraInfo and PointCloud2 of so many points, as rclpy gives them."""
    from sensor_msgs.msg import PointCloud2, PointField

    rng = np.random.default_rng(0)
    header = build.header(1_000_000_000, "camera")
    pixels = rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
    xyzi = rng.uniform([-60, -60, -2, 0], [60, 60, 4, 1], (points, 4)).astype(np.float32)
    cloud = PointCloud2(height=1, width=points, point_step=16, row_step=16 * points)
    cloud.header = header
    cloud.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "intensity"))
    ]
    cloud.data = build.data(xyzi)
    info = build.camera_info(camera, header)
    return build.image(pixels, "rgb8", header), info, cloud
