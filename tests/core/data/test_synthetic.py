"""The synthetic street against itself: its parts must tell the same story."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import Frame
from lemumo_core.geometry.boxes import box_corners, points_in_box
from lemumo_core.geometry.se3 import transform
from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_IDS
from lemumo_core.world.labels import LEAST_PIXELS, boxes_in_camera

WIDTH, HEIGHT = 352, 128
SEGMENT_OF = {
    "car": "car",
    "truck": "large_vehicle",
    "bus": "large_vehicle",
    "motorcycle": "two_wheeler",
    "bicycle": "two_wheeler",
    "pedestrian": "pedestrian",
}


def street(**options) -> SyntheticStreet:
    return SyntheticStreet(
        **{"seed": 3, "frames": 24, "width": WIDTH, "height": HEIGHT, "frames_per_drive": 2}
        | options
    )


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first moments of twelve drives."""
    source = street()
    return [source[k] for k in range(0, 24, 2)]


def equal(a: Frame, b: Frame) -> bool:
    arrays = [(a.image, b.image), (a.companion.points, b.companion.points)]
    arrays += [(getattr(a.labels, n), getattr(b.labels, n)) for n in vars(a.labels)]
    arrays += [(a.companion.T_camera_lidar, b.companion.T_camera_lidar)]
    same = all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in ((np.asarray(x), np.asarray(y)) for x, y in arrays)
    )
    return same and a.camera == b.camera and a.stamp_ns == b.stamp_ns


def test_shapes_types_and_what_it_says_of_itself(frames):
    source = street()
    assert len(source) == 24
    assert source.describe()["source"] == "synthetic" and source.describe()["frames"] == 24
    with pytest.raises(IndexError):
        source[24]
    for frame in frames:
        labels = frame.labels
        assert frame.image.shape == (HEIGHT, WIDTH, 3) and frame.image.dtype == np.uint8
        for name, dtype in (("label_map", "u1"), ("instance_map", "u2"), ("depth_m", "f4")):
            value = getattr(labels, name)
            assert value.shape == (HEIGHT, WIDTH) and value.dtype == dtype
        points = frame.companion.points
        assert points.shape[1] == 5 and points.dtype == np.float32 and np.isfinite(points).all()
        assert len(labels.point_labels) == len(points) > 5000
        count = len(labels.class_names)
        for name in ("boxes_3d", "boxes_2d", "visibility", "num_points"):
            assert len(getattr(labels, name)) == count
        assert set(labels.class_names) <= set(DETECTION_CLASSES)
    assert 0.05 < np.mean([frame.image.std() / 255 for frame in frames]) < 0.4


def test_same_seed_same_street_whatever_the_order_the_process_and_the_threads(tmp_path):
    size = {"width": 96, "height": 64}
    source = street(**size)
    later = source[5]
    assert equal(pickle.loads(pickle.dumps(source))[5], later)
    fresh = street(**size)
    for k in (7, 4):
        fresh[k]
    assert equal(fresh[5], later)
    assert equal(street(**size)[-19], later)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert equal(street(**size)[5], later)
    finally:
        torch.set_num_threads(threads)
    (tmp_path / "source").write_bytes(pickle.dumps(source))
    code = (
        "import pickle, sys; source = pickle.load(open('source', 'rb')); "
        "pickle.dump(source[5], open('frame', 'wb'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert equal(pickle.loads((tmp_path / "frame").read_bytes()), later)


def test_frames_rendered_together_equal_frames_rendered_alone():
    """As a GPU does it: all frames of a drive at once."""
    alone, together = street(frames_per_drive=3), street(frames_per_drive=3)
    together.batch = 3
    for k in (1, 2):
        a, b = alone[k], together[k]
        assert (np.abs(a.image.astype(int) - b.image) > 1).mean() < 1e-3
        assert (a.labels.label_map != b.labels.label_map).mean() < 1e-3
        np.testing.assert_allclose(
            np.nan_to_num(a.labels.depth_m), np.nan_to_num(b.labels.depth_m), rtol=1e-3, atol=1e-3
        )
        assert a.labels.class_names == b.labels.class_names
        np.testing.assert_allclose(a.labels.visibility, b.labels.visibility, atol=0.02)


def test_seeds_and_splits_are_different_worlds():
    images = [street(**o)[0].image for o in ({}, {"seed": 4}, {"split": "val"}, {"split": "test"})]
    for a, b in itertools.combinations(images, 2):
        assert (np.abs(a.astype(int) - b) > 8).mean() > 0.3


def test_lidar_agrees_with_depth_and_labels(frames):
    for frame in frames:
        points = transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3])
        uv, valid = frame.camera.project(points)
        u, v = np.rint(np.nan_to_num(uv, nan=-1).clip(-1, 9999)).astype(int).T
        seen = valid & (u >= 1) & (u < WIDTH - 1) & (v >= 1) & (v < HEIGHT - 1)
        # What moves is elsewhere by the time of the image; the road is not.
        road = frame.labels.point_labels == SEGMENTATION_IDS["road"]
        u, v, z = u[seen & road], v[seen & road], points[seen & road, 2]
        window = [(dv, du) for dv in (-1, 0, 1) for du in (-1, 0, 1)]
        around = np.stack([frame.labels.depth_m[v + dv, u + du] for dv, du in window])
        low, high = np.nanmin(around, axis=0), np.nanmax(around, axis=0)
        error = np.maximum(z - high, low - z)
        # The rest is hidden from the camera, which sits lower than the LiDAR.
        assert len(z) > 50
        assert (error < 0.1).mean() > 0.9
        same = np.stack([frame.labels.label_map[v + dv, u + du] for dv, du in window])
        assert (same == SEGMENTATION_IDS["road"]).any(axis=0).mean() > 0.85


def test_boxes_hold_the_pixels_of_their_objects(frames):
    for frame in frames:
        labels, camera = frame.labels, frame.camera
        v, u = np.mgrid[:HEIGHT, :WIDTH]
        rays = camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
        points = rays * labels.depth_m.reshape(-1, 1).astype(np.float64)
        instance, segments = labels.instance_map.ravel(), labels.label_map.ravel()
        assert instance.max() == len(labels.class_names)
        for k, (box, flat) in enumerate(zip(labels.boxes_3d, labels.boxes_2d, strict=True)):
            mine = instance == k + 1
            assert mine.sum() >= LEAST_PIXELS
            assert (segments[mine] == SEGMENTATION_IDS[SEGMENT_OF[labels.class_names[k]]]).all()
            # The camera pitches and rolls by a few degrees; a box has nothing but its yaw.
            grown = box.copy()
            grown[3:6] += 0.02 + 0.12 * box[3:6].max()
            assert points_in_box(points[mine], grown).mean() > 0.999
            x, y = u.ravel()[mine], v.ravel()[mine]
            slack = 1 + 0.08 * (flat[2:] - flat[:2]).max()
            assert (x >= flat[0] - slack).all() and (x <= flat[2] + slack).all()
            assert (y >= flat[1] - slack).all() and (y <= flat[3] + slack).all()
        # Pixels of a road user that belong to no box are of objects too small to label.
        users = np.isin(segments, [SEGMENTATION_IDS[name] for name in SEGMENT_OF.values()])
        assert (instance[users] > 0).mean() > 0.9


def test_point_counts_are_points_in_boxes(frames):
    for frame in frames:
        points = transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3])
        counts = [points_in_box(points, box).sum() for box in frame.labels.boxes_3d]
        # The labels count with boxes in double precision: a point on a face may go either way.
        assert np.abs(np.array(counts) - frame.labels.num_points).max(initial=0) <= 2


def test_sky_is_what_has_no_depth_and_the_streets_have_their_parts(frames):
    for frame in frames:
        sky = frame.labels.label_map == SEGMENTATION_IDS["sky"]
        assert np.array_equal(sky, np.isnan(frame.labels.depth_m))
    maps = np.stack([frame.labels.label_map for frame in frames])
    assert set(np.unique(maps)) == set(SEGMENTATION_IDS.values())
    names = {name for frame in frames for name in frame.labels.class_names}
    assert {"car", "truck", "bicycle", "pedestrian"} <= names
    assert len({(frame.camera.model, frame.camera.fx) for frame in frames}) > 6
    assert len({frame.companion.points.shape for frame in frames}) == len(frames)


def test_clocks_run_at_thirty_and_ten_hertz_and_are_not_in_step():
    source = street(frames=9, frames_per_drive=9, rate_hz=30.0)
    frames = list(source[k] for k in range(9))
    stamps = np.array([frame.stamp_ns for frame in frames])
    sweeps = np.array([frame.companion.stamp_ns for frame in frames])
    assert np.abs(np.diff(stamps) - 1e9 / 30).max() <= 1
    assert np.abs(np.diff(np.unique(sweeps)) - 1e8).max() <= 1
    assert np.abs(stamps - sweeps).max() <= 0.05e9 + 1
    assert len(np.unique(sweeps)) in (3, 4)
    assert np.abs(stamps - sweeps).min() > 0  # clocks of their own
    # A sweep shared by several images is the same sweep; only its place in the camera changes.
    for a, b in itertools.pairwise(frames):
        if a.companion.stamp_ns == b.companion.stamp_ns:
            assert np.array_equal(a.companion.points, b.companion.points)
            moved = a.companion.T_camera_lidar - b.companion.T_camera_lidar
            assert np.abs(moved).max() > 0.05
    slow = street(frames=3, frames_per_drive=3, rate_hz=2.0)
    assert slow[1].stamp_ns - slow[0].stamp_ns == pytest.approx(0.5e9, abs=1)
    other_drive = street(frames=4, frames_per_drive=2)
    assert other_drive[2].stamp_ns - other_drive[1].stamp_ns > 1e12


def test_thermal_companion(frames):
    source = street(companion="thermal")
    frame = source[0]
    thermal = frame.companion
    assert thermal.image.dtype == np.uint16
    assert thermal.image.shape == (thermal.camera.height, thermal.camera.width) == (64, 176)
    assert 22_000 < thermal.image.min() < thermal.image.max() < 34_000
    assert np.array_equal(frame.image, frames[0].image)
    assert frame.labels.num_points is None and frame.labels.point_labels is None
    assert np.isfinite(thermal.T_camera_thermal).all() and thermal.stamp_ns == frame.stamp_ns


def test_moving_sweeps_change_the_points_only(frames):
    moving = street(moving_sweeps=True)[0]
    assert np.array_equal(moving.image, frames[0].image)
    assert not np.array_equal(moving.companion.points, frames[0].companion.points)


def test_boxes_turn_with_the_camera():
    """World yaw about z against the camera's yaw about y, by the corners of the box."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        yaw = rng.uniform(-np.pi, np.pi)
        heading = rng.uniform(-np.pi, np.pi)
        c, s = np.cos(heading), np.sin(heading)
        R = np.array([[s, 0, c], [-c, 0, s], [0, -1.0, 0]])  # level camera that looks along heading
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, rng.uniform(-5, 5, 3)
        box = np.array([*rng.uniform(-9, 9, 3), 4.0, 2.0, 1.5, yaw])
        made = box_corners(boxes_in_camera(box[None], T))[0] @ R.T + T[:3, 3]
        cy, sy = np.cos(yaw), np.sin(yaw)
        signs = np.array(list(itertools.product((1, -1), (1, -1), (-1, 1)))) / 2
        expected = signs * box[3:6] @ np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]).T + box[:3]
        np.testing.assert_allclose(made, expected, atol=1e-9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"companion": "radar"}, "unknown companion 'radar'"),
        ({"rate_hz": 60.0}, "rate_hz is 60"),
        ({"frames": 0}, "must be positive"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        street(**options)
