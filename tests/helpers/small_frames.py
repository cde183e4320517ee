"""Frames with everything in them, small and made of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

CAMERA = Camera(160, 96, 117.0, 118.0, 79.0, 46.5)
T_CAMERA_LIDAR = make_T(
    np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.05, -0.4, -0.3])
)


class Frames(list[Frame]):
    """A source of given frames."""

    def describe(self) -> dict[str, Any]:
        return {"source": "given", "frames": len(self)}


def small_frames(count: int, step_ns: int = 100_000_000) -> list[Frame]:
    """The same frames every time, from 1 s on: image, LiDAR of the same stamp, boxes, label map
    and depth."""
    rng = np.random.default_rng(0)
    return [_frame(1_000_000_000 + i * step_ns, rng) for i in range(count)]


def _frame(stamp_ns: int, rng: np.random.Generator) -> Frame:
    size = CAMERA.height, CAMERA.width
    points = rng.uniform((3, -6, -2, 0), (40, 6, 2, 255), (400, 4)).astype(np.float32)
    depth_m = rng.uniform(1, 80, size).astype(np.float32)
    depth_m[:20] = np.nan
    boxes = rng.uniform((-4, 0, 6, 1, 1, 1, -3), (4, 1, 30, 5, 2, 2, 3), (3, 7)).astype(np.float32)
    label_map = rng.integers(0, len(SEGMENTATION_CLASSES) + 1, size, np.uint8)
    label_map[label_map == len(SEGMENTATION_CLASSES)] = UNLABELLED
    labels = Labels(
        boxes_3d=boxes,
        boxes_2d=image_bounds(boxes, CAMERA),
        class_names=("car", "truck", "pedestrian"),
        label_map=label_map,
        depth_m=depth_m,
    )
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    scan = LidarScan(points, T_CAMERA_LIDAR, stamp_ns)
    return Frame(stamp_ns, "front", CAMERA, image, scan, labels)
