"""Changed rigs see what the first one saw, where it lies in their image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.rigs import RIGS
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform

CAMERAS = {
    "pinhole": Camera(320, 200, 190.0, 195.0, 150.0, 105.0),
    "plumb_bob": Camera(
        320, 200, 190.0, 195.0, 150.0, 105.0, "plumb_bob", (-0.2, 0.03, 0.02, -0.03, 0.0)
    ),
}
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])
PICTURES = "grey", "BGR", "bright", "at night", "blurred", "smudged", "black"


def seen_by(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return colors where returns are in the image, float (N, 3), NaN outside, and depths."""
    scan = frame.companion
    points = transform(scan.T_camera_lidar, scan.points[:, :3].astype(np.float64))
    uv, valid = frame.camera.project(points)
    limit = np.array([frame.camera.width - 1, frame.camera.height - 1])
    valid &= ((uv >= 0) & (uv <= limit)).all(1)
    at = np.where(valid[:, None], uv, 0.0).astype(np.float32)
    colors = cv2.remap(frame.image.astype(np.float32), at[:, None], None, cv2.INTER_LINEAR)[:, 0]
    colors[~valid] = np.nan
    return colors, points[:, 2]


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_returns_stay_on_what_they_hit(camera: Camera) -> None:
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    image = np.stack([u * 0.7, v, 250 - 0.4 * u - 0.5 * v], axis=-1).astype(np.uint8)
    azimuth, elevation = np.meshgrid(
        np.radians(np.arange(-40, 40.1)), np.radians(np.arange(-20, 20.0, 2))
    )
    rays = np.stack([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)], axis=-1).reshape(-1, 3)
    ring = np.repeat(np.arange(len(azimuth)), azimuth.shape[1])
    points = np.c_[10 * rays, np.zeros(len(rays)), ring].astype(np.float32)
    frame = Frame(1, "a", camera, image, LidarScan(points, T_CAMERA_LIDAR, 1))
    colors, depths_m = seen_by(frame)
    for name, rig in RIGS.items():
        changed = rig(frame)
        assert changed.image.dtype == np.uint8
        assert changed.image.shape == (changed.camera.height, changed.camera.width, 3)
        if name in PICTURES:
            assert changed.camera == camera and not np.array_equal(changed.image, image)
        elif len(changed.companion.points) < len(points):
            assert np.array_equal(changed.image, image)
            assert len(changed.companion.points) <= len(points) / 2 + 1
        else:
            found, found_m = seen_by(changed)
            both = ~np.isnan(found[:, 0]) & ~np.isnan(colors[:, 0])
            assert both.sum() > 300, name
            assert np.abs(found - colors)[both].max() < 2.5, name
            np.testing.assert_allclose(found_m, depths_m)
    fewer = RIGS["every fourth beam"](frame).companion.points
    assert np.unique(fewer[:, 4]).tolist() == np.arange(0, 20, 4).tolist()
