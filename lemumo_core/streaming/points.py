"""Dense depth as a coloured point cloud."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lemumo_core.frame import Frame, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.messages.builder import MessageBuilder


def colored_points(build: MessageBuilder, frame: Frame, perception: Perception, header: Any) -> Any:
    """Return a point for every pixel of known depth, in the colour of the image there.

    Args:
        build: builder of the message.
        frame: its image gives the colours; without an image all points are black.
        perception: its depth and output camera give the points.
        header: of the source image; the points are in its optical frame, metres.

    Returns:
        A PointCloud2 of x, y, z and rgb, which is packed in the bits of a float32 as PCL and RViz
        read it.
    """
    camera = perception.output_camera
    known = np.isfinite(perception.depth_m)
    depth_m = perception.depth_m[known]
    points = np.empty((len(depth_m), 4), np.float32)
    points[:, :3] = rays(camera)[known] * depth_m[:, None]
    if not np.array_equal(frame.T_camera_header, np.eye(4)):
        T_header_camera = inverse(frame.T_camera_header).astype(np.float32)
        points[:, :3] = points[:, :3] @ T_header_camera[:3, :3].T + T_header_camera[:3, 3]
    packed = np.zeros(len(depth_m), np.uint32)
    if frame.image is not None:
        view = frame.camera.scaled(frame.image.shape[1], frame.image.shape[0])
        colors = look_up(frame.image, view, camera, 0)[known].astype(np.uint32)
        packed = colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    points[:, 3] = packed.view(np.float32)
    points = points[np.isfinite(points[:, :3]).all(axis=1)]  # pixels that the lens does not show
    return build.point_cloud(points, ("x", "y", "z", "rgb"), header)


@functools.lru_cache(maxsize=16)
def rays(camera: Camera) -> np.ndarray:
    """Return the point at depth 1 behind each pixel: float32 (height, width, 3)."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    return rays.reshape(camera.height, camera.width, 3).astype(np.float32)
