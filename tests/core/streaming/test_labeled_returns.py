"""LiDAR returns with the colour and the class of the pixel that shows them."""

from __future__ import annotations

import numpy as np

from lemumo_core.frame import UNLABELLED, Detections, Frame, LidarScan, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.streaming.points import labeled_returns

CAMERA = Camera(160, 120, 120.0, 120.0, 79.5, 59.5)
VIEW = Camera(80, 60, 60.0, 60.0, 39.5, 29.5)
T_CAMERA_LIDAR = make_T(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.1, -0.2, 0]))
LEFT, RIGHT = (200, 10, 10), (10, 10, 200)
"""Colours of the halves of the image; their classes are 3 and 7, a wall 10 m ahead."""


def test_returns_have_color_and_class_and_hidden_ones_none() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, :80], image[:, 80:] = LEFT, RIGHT
    labels = np.full((60, 80), 3, np.uint8)
    labels[:, 40:] = 7
    depth_m = np.full((60, 80), 10.0, np.float32)
    depth_m[:5] = np.nan
    cases = {
        (10.0, 2.0, 0.0): (3, LEFT),
        (10.0, -2.0, 0.0): (7, RIGHT),
        (4.0, -0.5, 0.0): (7, RIGHT),  # before the wall
        (10.4, 2.0, 0.0): (3, LEFT),  # within the error of depth
        (15.0, 2.0, 0.0): (UNLABELLED, (0, 0, 0)),  # behind the wall
        (15.0, 2.0, 7.0): (3, LEFT),  # nothing is known to be before it
        (-5.0, 0.0, 0.0): (UNLABELLED, (0, 0, 0)),  # behind the camera
        (5.0, 9.0, 0.0): (UNLABELLED, (0, 0, 0)),  # outside of the view
    }
    none = [(0.0, 0.0, 0.0), (np.nan, 1.0, 1.0)]
    xyz = np.array([*none, *cases], np.float32)
    points = np.c_[xyz, np.arange(len(xyz))].astype(np.float32)
    nothing = Detections(*(np.zeros(shape, np.float32) for shape in [(0, 7), (0, 4), 0, 0]))
    perception = Perception(
        1, "front", nothing, depth_m, np.ones_like(depth_m), labels, VIEW, ("camera", "lidar")
    )
    frame = Frame(1, "front", CAMERA, image, LidarScan(points, T_CAMERA_LIDAR, 1))
    found = labeled_returns(frame, perception)
    homogeneous = np.c_[xyz[2:].astype(float), np.ones(len(cases))]
    np.testing.assert_allclose(found[:, :3], (homogeneous @ T_CAMERA_LIDAR.T)[:, :3], atol=1e-5)
    np.testing.assert_array_equal(found[:, 3], points[2:, 3])
    packed = np.ascontiguousarray(found[:, 4]).view(np.uint32)
    for row, color, (label, expected) in zip(found, packed.tolist(), cases.values(), strict=True):
        assert row[5] == label
        assert (color >> 16, color >> 8 & 255, color & 255) == expected
    # A 3D network's classes take the place of those of the pixels, wherever the return is.
    ids = np.arange(len(xyz), dtype=np.uint8)
    by_network = labeled_returns(frame, perception, ids)
    np.testing.assert_array_equal(by_network[:, 5], ids[2:])
    np.testing.assert_array_equal(by_network[:, :5].view(np.uint32), found[:, :5].view(np.uint32))
    assert labeled_returns(Frame(1, "front", CAMERA, image), perception).shape == (0, 6)
