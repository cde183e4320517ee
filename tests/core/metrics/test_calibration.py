"""Drift of extrinsics, found on frames that are turned on purpose, and never where they are not."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.calibration import Alignment, align
from lemumo_core.metrics.calibration_drift import MIN_SCENES, Drift, drift, scene_numbers
from lemumo_core.metrics.depth_edges import depth_edges
from tests.helpers.turned import PITCH, ROLL, YAW, turned

T_OPTICAL = make_T(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))
"""From axes x forward, y left, z up."""


def aligned(frame: Frame) -> Alignment:
    found = align(frame)
    assert found is not None
    return found


def drift_of(frames: list[Frame]) -> Drift:
    return drift([aligned(frame) for frame in frames])


@pytest.fixture(scope="module")
def true(rendered_drive) -> list[Alignment]:
    return [aligned(frame) for frame in rendered_drive]


def test_true_extrinsics_are_aligned(true) -> None:
    found = drift(true)
    assert found.verdict == "aligned" and found.reason == ""
    assert found.scenes == len(true) and found.shift_m == [0.0, 0.0]
    low, high = found.angle_interval_deg
    assert low <= found.angle_deg <= high < 0.7


@pytest.mark.parametrize("degrees", [1.0, -1.0])
@pytest.mark.parametrize("axis", [PITCH, YAW, ROLL], ids=["pitch", "yaw", "roll"])
def test_a_degree_about_any_axis_is_found_and_undone(rendered_drive, axis, degrees) -> None:
    found = drift_of([turned(frame, axis, degrees) for frame in rendered_drive])
    assert found.verdict == "off"
    low, high = found.angle_interval_deg
    assert low <= 1.0 <= high
    wanted = -degrees * np.eye(3)[axis]
    np.testing.assert_allclose(found.rotation_deg, wanted, atol=0.25)
    for angle, (least, most) in zip(wanted, found.rotation_interval_deg, strict=True):
        assert least <= angle <= most
    left = turned(rendered_drive[0], axis, degrees).companion.T_camera_lidar
    left = found.correction @ left @ np.linalg.inv(rendered_drive[0].companion.T_camera_lidar)
    assert np.rad2deg(np.arccos((np.trace(left[:3, :3]) - 1) / 2)) < 0.3


def test_half_a_degree_is_not_denied(rendered_drive) -> None:
    """What is said of a small turn is true: it lies in the interval."""
    found = drift_of([turned(frame, YAW, 0.5) for frame in rendered_drive])
    low, high = found.angle_interval_deg
    assert found.verdict != "off" or low > 0.4
    assert low <= 0.5 <= high


def test_a_shift_asks_for_other_turns_near_than_far(rendered_drive) -> None:
    found = drift_of([turned(frame, shift_m=(0.2, 0, 0)) for frame in rendered_drive])
    (least, most), (down_least, down_most) = found.shift_interval_m
    assert least <= -0.2 <= most < 0 and down_least < 0 < down_most
    assert found.verdict != "aligned" and found.shift_m[0] < -0.05


def test_few_frames_are_undecided(true, rendered_drive) -> None:
    off = [aligned(turned(frame, YAW, 2.0)) for frame in rendered_drive]
    for frames in (true, off):
        for count in (1, 2):
            for chosen in itertools.combinations(frames, count):
                found = drift(chosen)
                assert found.verdict == "undecided" and f"{MIN_SCENES} are needed" in found.reason


def test_a_standing_scene_counts_once(true) -> None:
    found = drift([true[0]] * 30)
    assert (found.scenes, found.frames, found.verdict) == (1, 30, "undecided")
    assert scene_numbers([*true, *true]) == 2 * list(range(len(true)))
    assert scene_numbers([]) == []
    many = drift([one for one in true for _ in range(5)])
    assert many.angle_interval_deg == pytest.approx(drift(true).angle_interval_deg, abs=1e-6)


def test_what_fits_nowhere_is_undecided(rendered_drive) -> None:
    half = len(rendered_drive) // 2
    changing = [turned(f, PITCH, 1.0 if i < half else -1.0) for i, f in enumerate(rendered_drive)]
    assert "halves of the bag disagree" in drift_of(changing).reason
    far_off = drift_of([turned(frame, YAW, 3.0) for frame in rendered_drive])
    assert far_off.verdict == "undecided" and far_off.reason.startswith("no turn up to 3 degrees")
    mirrored = [replace(frame, image=frame.image[:, ::-1].copy()) for frame in rendered_drive]
    assert drift_of(mirrored).verdict == "undecided"


def test_a_frame_with_nothing_to_compare_is_undecided() -> None:
    camera = Camera(160, 96, 100.0, 100.0, 79.5, 47.5)
    scan = LidarScan(np.full((50, 3), np.nan, np.float32), np.eye(4), 0)
    image = np.zeros((96, 160, 3), np.uint8)
    nothing = drift_of([Frame(0, "front", camera, image, scan)])
    assert nothing.verdict == "undecided" and nothing.edges == nothing.scenes == 0
    assert drift([]).verdict == "undecided"
    assert len(aligned(Frame(0, "front", camera.scaled(3, 3), image[:3, :3], scan)).edges) == 0
    assert align(Frame(0, "front", camera, None, scan)) is None
    assert align(Frame(0, "front", camera, image, None)) is None


def post(aside_m: float) -> LidarScan:
    """A post 1 m wide, 6 m away, before a wall at 20 m, and a LiDAR ``aside_m`` to the left."""
    azimuth, elevation = np.meshgrid(
        np.deg2rad(np.arange(-40, 40, 0.17)), np.deg2rad(np.arange(-8, 8, 0.4))
    )
    ray = np.stack([np.ones_like(azimuth), np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)])
    ray = ray.reshape(3, -1).T
    at_post = 6.0 * ray[:, 1] - aside_m  # to the left, from the camera's middle
    points = ray * np.where(np.abs(at_post) < 0.5, 6.0, 20.0)[:, None]
    T = make_T(T_OPTICAL[:3, :3], T_OPTICAL[:3, :3] @ [0.0, -aside_m, 0.3])
    return LidarScan(points.astype(np.float32), T, 0)


POST_CAMERA = Camera(640, 240, 500.0, 500.0, 319.5, 119.5)


@pytest.mark.parametrize("aside_m", [-0.6, 0.0, 0.6])
def test_edges_lie_on_the_outline_wherever_the_lidar_is(aside_m) -> None:
    """No parallax moves the outline of a post."""
    edges = depth_edges(post(aside_m), POST_CAMERA)
    outline = 319.5 + 500.0 * np.array([-0.5, 0.5]) / 6.0
    off_px = np.abs(edges.uv[:, :1] - outline)
    assert len(off_px) > 50 and edges.upright.all()
    assert off_px.min(axis=1).max() < 1.5  # the beams are 1.5 pixels apart
    assert (off_px.argmin(axis=1) == 0).any() and (off_px.argmin(axis=1) == 1).any()
    np.testing.assert_allclose(edges.depth_m, 6.0, atol=0.02)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_camera_on_its_side_sees_the_same_edges(side) -> None:
    scan, aside = post(0.3), Camera(240, 640, 500.0, 500.0, 119.5, 319.5)
    turn = make_T(np.array([[0.0, -side, 0], [side, 0, 0], [0, 0, 1]]), np.zeros(3))
    level = depth_edges(scan, POST_CAMERA)
    rolled = depth_edges(replace(scan, T_camera_lidar=turn @ scan.T_camera_lidar), aside)
    places = (level.uv - (319.5, 119.5)) @ turn[:2, :2].T + (119.5, 319.5)
    np.testing.assert_allclose(rolled.uv, places, atol=1e-3)
    assert level.upright.all() and not rolled.upright.any()


@pytest.mark.filterwarnings("error")
def test_a_camera_may_look_along_the_axis_of_the_beams() -> None:
    """It looks up, at a lamp of .6 m that hangs .8 m below the ceiling."""
    u, v = np.meshgrid(np.arange(0.6, 2.4, 0.01), np.arange(-1, 1, 0.01))
    z = np.where((abs(u - 1.3) < 0.3) & (abs(v) < 0.3), 1.2, 2.0)
    above = np.stack([u * z / 1.2, v * z / 1.2, z], axis=-1).reshape(-1, 3)
    turn = np.linspace(0, 2 * np.pi, 200_000)
    around = np.stack([5 * np.cos(turn), 5 * np.sin(turn), 0 * turn], axis=-1)
    points = np.concatenate([above, around]).astype(np.float32)
    camera = Camera(600, 600, 100.0, 100.0, 299.5, 299.5)
    edges = depth_edges(LidarScan(points, np.eye(4), 0), camera)
    off = (edges.uv - 299.5) / 100 * 1.2 - (1.3, 0)
    assert len(edges.uv) > 50
    np.testing.assert_allclose(np.abs(off).max(axis=1), 0.3, atol=0.03)


def test_a_wall_seen_from_above_has_edges_only_where_it_ends() -> None:
    """Flat ground of ever larger steps between rings is one surface."""
    camera = Camera(320, 200, 250.0, 250.0, 159.5, 60.0)
    v, u = np.mgrid[64:200:2, 0:320:2]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], 1).astype(float))
    ground = 1.7 / rays[:, 1]
    box = (abs(rays[:, 0]) < 0.15) & (rays[:, 1] < 0.17)
    points = (rays * np.where(box, 8.0, ground)[:, None]).astype(np.float32)
    points = points[points[:, 2] < 60]
    free = LidarScan((rays * ground[:, None]).astype(np.float32)[ground < 60], np.eye(4), 0)
    assert len(depth_edges(free, camera).uv) == 0
    assert len(depth_edges(LidarScan(points, np.eye(4), 0), camera).uv) > 20


@pytest.mark.slow
def test_kitti_is_never_off(shared_data) -> None:
    source = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")
    frames = [aligned(source[i]) for i in range(len(source))]
    parts = [[one] for one in frames] + [frames[i::2] for i in (0, 1)] + [frames[:8], frames[8:]]
    verdicts = {drift(part).verdict for part in [*parts, *map(list, itertools.pairwise(frames))]}
    assert "off" not in verdicts
    together = drift(frames)
    assert together.verdict == "aligned" and together.scenes < len(frames)
