"""Drift of extrinsics, found on real frames that are turned on purpose."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.calibration import WARN_DEG, Alignment, align, drift

AXES = {"pitch": 0, "yaw": 1, "roll": 2}


def turned(frame: Frame, axis: int, degrees: float) -> Frame:
    rotation, _ = cv2.Rodrigues(np.deg2rad(degrees) * np.eye(3)[axis])
    T = make_T(rotation, np.zeros(3)) @ frame.companion.T_camera_lidar
    return replace(frame, companion=replace(frame.companion, T_camera_lidar=T))


@pytest.fixture(scope="module")
def frames(shared_data) -> list[Frame]:
    source = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")
    return [source[i] for i in range(len(source))]


def aligned(frame: Frame) -> Alignment:
    found = align(frame)
    assert found is not None
    return found


def test_true_extrinsics_are_flagged_on_no_frame(frames) -> None:
    alignments = [aligned(frame) for frame in frames]
    assert len(alignments) == 16
    for one in alignments:
        assert drift([one]).verdict != "drifted" and drift([one]).angle_deg < WARN_DEG
    together = drift(alignments)
    assert together.verdict == "aligned" and together.angle_deg < 0.2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("degrees", [1.0, -1.0])
@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_a_degree_about_any_axis_is_flagged_on_every_frame(frames, axis, degrees) -> None:
    alignments = [aligned(turned(frame, axis, degrees)) for frame in frames]
    assert [drift([one]).verdict for one in alignments] == ["drifted"] * 16
    together = drift(alignments)
    wanted = -degrees * np.eye(3)[axis]  # what undoes it
    np.testing.assert_allclose(together.rotation_deg, wanted, atol=0.2)
    assert together.confidence > 0.95


def test_a_frame_with_nothing_to_compare_is_undecided() -> None:
    camera = Camera(160, 96, 100.0, 100.0, 79.5, 47.5)
    scan = LidarScan(np.full((50, 3), np.nan, np.float32), np.eye(4), 0)
    image = np.zeros((96, 160, 3), np.uint8)
    nothing = drift([aligned(Frame(0, "front", camera, image, scan))])
    assert nothing.verdict == "undecided" and nothing.edges == 0
    assert align(Frame(0, "front", camera, None, scan)) is None
    assert align(Frame(0, "front", camera, image, None)) is None


def test_a_wall_seen_from_above_has_edges_only_where_it_ends() -> None:
    """Flat ground of ever larger steps between rings is one surface."""
    camera = Camera(320, 200, 250.0, 250.0, 159.5, 60.0)
    v, u = np.mgrid[64:200:2, 0:320:2]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], 1).astype(float))
    ground = 1.7 / rays[:, 1]
    box = (abs(rays[:, 0]) < 0.15) & (rays[:, 1] < 0.17)
    points = (rays * np.where(box, 8.0, ground)[:, None]).astype(np.float32)
    points = points[points[:, 2] < 60]
    image = np.full((200, 320, 3), 90, np.uint8)
    free = LidarScan((rays * ground[:, None]).astype(np.float32)[ground < 60], np.eye(4), 0)
    assert aligned(Frame(0, "f", camera, image, free)).edges == 0
    assert aligned(Frame(0, "f", camera, image, LidarScan(points, np.eye(4), 0))).edges > 20
