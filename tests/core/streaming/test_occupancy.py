"""The grid of a scene that is known: a street with a wall across it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.frame import Detections, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, transform
from lemumo_core.streaming.occupancy import GridOptions, occupancy_grid
from lemumo_core.streaming.outputs import Result
from lemumo_core.taxonomy import Taxonomy

CAMERA = Camera(160, 120, 90.0, 90.0, 79.5, 59.5)
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([0.0, 0, 1.5]))
CLASSES = ("road", "building", "sky")
WALL_X_M, WALL_Y_M = 8.1, (-2.0, 1.0)
OPTIONS = GridOptions(resolution_m=0.5, reach_m=10.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Depth and labels: flat ground, a wall 8.1 m ahead and 5 m high, sky."""
    v, u = np.mgrid[:120, :160]
    rays = CAMERA.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    directions = rays @ T_BASE_CAMERA[:3, :3].T
    with np.errstate(divide="ignore"):
        to_ground = np.where(directions[:, 2] < 0, -1.5 / directions[:, 2], np.nan)
    to_wall = WALL_X_M / directions[:, 0]
    at_wall = transform(T_BASE_CAMERA, rays * to_wall[:, None])
    hits = (at_wall[:, 1] > WALL_Y_M[0]) & (at_wall[:, 1] < WALL_Y_M[1])
    hits &= (at_wall[:, 2] > 0) & (at_wall[:, 2] < 5)
    depth_m = np.where(hits, to_wall, to_ground)
    labels = np.where(hits, 1, np.where(np.isfinite(to_ground), 0, 2)).astype(np.uint8)
    depth_m[labels == 2] = 9.0  # a network has some depth for the sky, too
    return depth_m.reshape(120, 160).astype(np.float32), labels.reshape(120, 160)


def test_a_wall_is_occupied_the_ground_before_it_free_and_the_rest_unknown() -> None:
    depth_m, labels = scene()
    nothing = Detections(*(np.zeros(shape, np.float32) for shape in [(0, 7), (0, 4), 0, 0]))
    perception = Perception(
        10**9, "front", nothing, depth_m, np.ones_like(depth_m), labels, CAMERA, ("camera",)
    )
    manifest = SimpleNamespace(classes=Taxonomy(segmentation_classes=CLASSES))
    result = Result(perception, manifest, "camera", np.eye(4), "base_link", T_BASE_CAMERA)
    grid = occupancy_grid(RosbagsBuilder(), result, OPTIONS)
    info = grid.info
    assert (grid.header.frame_id, info.width, info.height) == ("base_link", 40, 40)
    assert (info.origin.position.x, info.origin.position.y, info.resolution) == (-10, -10, 0.5)
    cells = np.asarray(grid.data).reshape(40, 40)

    def value(x: float, y: float) -> int:
        return int(cells[int((y + 10) // 0.5), int((x + 10) // 0.5)])

    assert {value(8.1, y) for y in np.arange(-1.75, 1.0, 0.5)} == {100}
    assert {value(x, 0.0) for x in np.arange(3.25, 7.5, 0.5)} == {0}
    assert value(9.5, 0.0) == -1 and value(-3.0, 0.0) == -1  # behind the wall, and the robot
    assert (cells == 100).sum() == 6  # nothing else stands anywhere, no sky
