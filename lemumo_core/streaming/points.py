"""Dense depth as a coloured point cloud, and LiDAR returns with colour and class."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import UNLABELLED, Frame, LidarScan, Perception, is_return
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.messages.builder import MessageBuilder

LABELED_FIELDS = ("x", "y", "z", "intensity", "rgb", "label")
HIDDEN_SHARE, HIDDEN_M = 0.1, 0.5
"""Share of the depth, and metres, by which a return is behind what the image shows there."""


def colored_points(
    build: MessageBuilder, frame: Frame, depth_m: np.ndarray, camera: Camera, header: Any
) -> Any:
    """Return a point for every pixel of known depth, in the colour of the image there.

    Args:
        build: builder of the message.
        frame: its image gives the colours; without an image all points are black.
        depth_m: dense depth (h, w), metres, NaN where it is unknown.
        camera: model of the depth's pixels.
        header: of the source image; the points are in its optical frame, metres.

    Returns:
        A PointCloud2 of x, y, z and rgb, which is packed in the bits of a float32 as PCL and RViz
        read it.
    """
    known = np.isfinite(depth_m)
    points = np.empty((int(known.sum()), 4), np.float32)
    points[:, :3] = rays(camera)[known] * depth_m[known, None]
    if not np.array_equal(frame.T_camera_header, np.eye(4)):
        T_header_camera = inverse(frame.T_camera_header).astype(np.float32)
        points[:, :3] = points[:, :3] @ T_header_camera[:3, :3].T + T_header_camera[:3, 3]
    points[:, 3] = _packed_colors(frame, camera, np.nonzero(known))
    points = points[np.isfinite(points[:, :3]).all(axis=1)]  # pixels that the lens does not show
    return build.point_cloud(points, ("x", "y", "z", "rgb"), header)


def labeled_returns(
    frame: Frame, perception: Perception, point_labels: np.ndarray | None = None
) -> np.ndarray:
    """Return every LiDAR return with a class, and with the colour of the pixel that shows it.

    A return that the camera does not see, because it is outside of the view or clearly farther than
    the dense depth there, is black and, unless a 3D network labelled it, unlabelled.

    Args:
        frame: its image gives the colours and its LiDAR scan the returns, none without one.
        perception: its labels, depth and output camera.
        point_labels: class ids of a 3D network, uint8 (N,), one a row of the scan's points; None
            takes those of the pixels.

    Returns:
        Float32 (N, 6) of the columns ``LABELED_FIELDS``, metres in the frame that the image's
        header names. ``rgb`` is packed as in ``colored_points``, ``label`` a class id.
    """
    scan = frame.companion
    if not isinstance(scan, LidarScan):
        return np.empty((0, len(LABELED_FIELDS)), np.float32)
    returns = is_return(scan.points)
    points = scan.points[returns]
    T_header_lidar = inverse(frame.T_camera_header) @ scan.T_camera_lidar
    labeled = np.zeros((len(points), len(LABELED_FIELDS)), np.float32)
    labeled[:, :3] = transform(T_header_lidar, points[:, :3].astype(np.float64))
    labeled[:, 3] = points[:, 3] if points.shape[1] > 3 else 0.0
    labeled[:, 5] = UNLABELLED if point_labels is None else point_labels[returns]
    camera = perception.output_camera
    found = project_returns(points, scan.T_camera_lidar, camera, 0.0)
    pixels = (found.v + 0.5).astype(np.intp), (found.u + 0.5).astype(np.intp)
    # Where depth is unknown nothing is known to hide the return: NaN compares false.
    hidden = found.depth_m > perception.depth_m[pixels] * (1 + HIDDEN_SHARE) + HIDDEN_M
    seen = found.row[~hidden]
    if point_labels is None:
        labeled[seen, 5] = perception.labels[pixels][~hidden]
    shown = pixels[0][~hidden], pixels[1][~hidden]
    labeled[seen, 4] = _packed_colors(frame, camera, shown)
    return labeled


def _packed_colors(
    frame: Frame, camera: Camera, pixels: tuple[np.ndarray, ...]
) -> np.ndarray | float:
    """Return the image's colours in the bits of float32 (N,); 0, black, without an image.

    Args:
        frame: with the image.
        camera: of the pixels.
        pixels: rows and columns, int (N,) each.
    """
    if frame.image is None:
        return 0.0
    view = frame.camera.scaled(frame.image.shape[1], frame.image.shape[0])
    colors = look_up(frame.image, view, camera, 0)[pixels].astype(np.uint32)
    return (colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]).view(np.float32)


@functools.lru_cache(maxsize=16)
def rays(camera: Camera) -> np.ndarray:
    """Return the point at depth 1 behind each pixel: float32 (height, width, 3)."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    return rays.reshape(camera.height, camera.width, 3).astype(np.float32)
