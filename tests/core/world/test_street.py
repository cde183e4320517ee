"""Drives: poses, traffic, boxes and queues over time, on several streets."""

from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import pytest

from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_IDS
from lemumo_core.world import objects
from lemumo_core.world.solids import SOLID
from lemumo_core.world.street import AHEAD_M, BEHIND_M, CROSSING_HALF_M, LANE_M, Drive
from tests.helpers.surface_points import surface_points

EGO_SIZE_M = (4.6, 1.9)


def _corners(x: float, y: float, length: float, width: float, yaw: float) -> np.ndarray:
    """Corners (4, 2) of a rectangle, by definition."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array(
        [
            (x + c * a * length / 2 - s * b * width / 2, y + s * a * length / 2 + c * b * width / 2)
            for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))
        ]
    )


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two rectangles of corners (4, 2) overlap: no edge of either separates them."""
    for corners in (a, b):
        for k in range(4):
            edge = corners[(k + 1) % 4] - corners[k]
            normal = np.array([-edge[1], edge[0]])
            if (a @ normal).max() <= (b @ normal).min() or (b @ normal).max() <= (a @ normal).min():
                return False
    return True


def _ego_box(drive: Drive, seconds: float) -> np.ndarray:
    T = drive.T_world_ego(seconds)
    return _corners(T[0, 3], T[1, 3], *EGO_SIZE_M, float(np.arctan2(T[1, 0], T[0, 0])))


@pytest.mark.parametrize("seed", range(8))
def test_nobody_overlaps_anybody_or_the_ego_vehicle(seed):
    drive = Drive(seed, "train")
    for seconds in np.arange(0, 20, 4):
        boxes = drive.scene(seconds).boxes
        flat = [_corners(x, y, length, width, yaw) for x, y, _, length, width, _, yaw in boxes]
        flat.append(_ego_box(drive, seconds))
        for a, b in combinations(flat, 2):
            if np.abs(a[0] - b[0]).max() < 15:
                assert not _overlap(a, b), f"second {seconds}"


@pytest.mark.parametrize("split", objects.SPLITS)
def test_boxes_contain_their_solids_tightly(split):
    scene = Drive(3, split).scene(4.0)
    assert len(scene.labels) == len(scene.boxes) > 20
    for owner, (x, y, z, *size, yaw) in list(enumerate(scene.boxes))[::3]:
        parts = scene.solids[scene.solids["owner"] == owner]
        points = np.concatenate([surface_points(part) for part in parts]) - (x, y, z)
        c, s = np.cos(yaw), np.sin(yaw)
        local = points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        np.testing.assert_allclose(local.max(axis=0), np.array(size) / 2, atol=0.011)
        np.testing.assert_allclose(local.min(axis=0), -np.array(size) / 2, atol=0.011)


def test_every_class_is_met_on_some_drive():
    met = {label for seed in range(12) for label in Drive(seed, "val").scene(5.0).labels}
    assert met == set(DETECTION_CLASSES)


def test_a_scene_is_of_sound_solids():
    scene = Drive(5, "train").scene(2.0)
    solids = scene.solids
    assert solids.dtype == SOLID
    assert set(np.unique(solids["owner"])) == set(range(-1, len(scene.labels)))
    for name in ("center", "axes", "half", "color", "warmth"):
        assert np.isfinite(solids[name]).all()
    gram = np.swapaxes(solids["axes"], 1, 2) @ solids["axes"]
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (len(solids), 1, 1)), atol=1e-5)
    ego = Drive(5, "train").T_world_ego(2.0)[0, 3]
    assert (scene.boxes[:, 0] > ego - BEHIND_M - 8).all()
    assert (scene.boxes[:, 0] < ego + AHEAD_M + 8).all()
    assert len(scene.lamps) > 5 and scene.lamps.dtype == np.float32
    assert ((scene.lamps[:, 2] > 5) & (scene.lamps[:, 2] < 8.5)).all()


@pytest.mark.parametrize("seed", range(4))
def test_everybody_moves_at_the_speed_of_their_row(seed):
    drive, dt = Drive(seed, "test"), 0.1
    before, after = drive.scene(6.0), drive.scene(6.0 + dt)
    speeds = {row.way * row.speed for row in drive.rows} | {0.0}
    matched = 0
    for label, a in zip(before.labels, before.boxes, strict=True):
        same = [b for n, b in zip(after.labels, after.boxes, strict=True) if n == label]
        near = [b for b in same if np.hypot(*(a - b)[:2]) < 2 and np.allclose(a[3:6], b[3:6])]
        if not near:
            edge = a[0] - drive.T_world_ego(6.0)[0, 3]
            assert edge < -BEHIND_M + 10 or edge > AHEAD_M - 10, "nobody vanishes in between"
            continue
        (b,) = near
        matched += 1
        assert min(abs(b[0] - a[0] - v * dt) for v in speeds) < 0.02
    assert matched > 20


def test_traffic_keeps_to_the_right_and_faces_where_it_goes():
    for seed in range(3):
        drive = Drive(seed, "train")
        for row in drive.rows:
            if row.kinds != ("pedestrian",):
                assert np.sign(row.offset) == -row.way
            for slot in range(15):
                user = row.user(drive.rng(row.name, slot), "train")
                if user is not None and row.speed > 0:
                    assert np.cos(user.yaw) == pytest.approx(row.way)


def test_the_ego_pose_is_continuous_and_faces_its_path():
    drive, dt = Drive(7, "train"), 1e-3
    for seconds in np.linspace(0, 30, 200):
        a, b = drive.T_world_ego(seconds), drive.T_world_ego(seconds + dt)
        np.testing.assert_allclose(a[:3, :3].T @ a[:3, :3], np.eye(3), atol=1e-12)
        step = b[:3, 3] - a[:3, 3]
        assert step[0] == pytest.approx(drive.speed * dt, rel=1e-6)
        np.testing.assert_allclose(step / np.linalg.norm(step), a[:3, 0], atol=1e-3)
        assert np.abs(b[:3, :3] - a[:3, :3]).max() < 1e-3


def test_the_ego_vehicle_stays_in_its_lane():
    for seed in range(5):
        drive = Drive(seed, "train")
        for seconds in np.linspace(0, 60, 100):
            x, y, _ = drive.T_world_ego(seconds)[:3, 3]
            assert -LANE_M < float(y - drive.middle(x)) < 0


def test_queues_wait_at_crossings_on_their_right_hand_side_off_the_main_road():
    seen = 0
    for seed in range(5):
        drive = Drive(seed, "train")
        for seconds in (0.0, 10.0):
            scene, ego = drive.scene(seconds), _ego_box(drive, seconds)
            crossings = drive.crossings(ego[0, 0] - 60, ego[0, 0] + 170)
            for x, y, _, length, width, _, yaw in scene.boxes:
                if abs(abs(yaw) - np.pi / 2) > 1e-9:
                    continue
                seen += 1
                gap = x - crossings[np.abs(crossings - x).argmin()]
                side = np.sign(y - drive.middle(x))
                assert np.sin(yaw) == -side, "faces the main road"
                assert np.sign(gap) == -side and abs(gap) + width / 2 < CROSSING_HALF_M
                nearest = np.abs(_corners(x, y, length, width, yaw)[:, 1] - drive.middle(x)).min()
                assert nearest > drive.half_m + drive.walk_m
    assert seen > 10


def test_a_moment_is_a_function_of_seed_split_and_time_alone():
    drive = Drive(11, "train")
    first = drive.scene(8.0)
    for seconds in (0.0, 50.0, 500.0):
        drive.scene(seconds)
    fresh = Drive(11, "train").scene(8.0)
    thawed = pickle.loads(pickle.dumps(drive)).scene(8.0)
    for other in (drive.scene(8.0), fresh, thawed):
        assert other.solids.tobytes() == first.solids.tobytes()
        assert other.boxes.tobytes() == first.boxes.tobytes()
        assert other.labels == first.labels
        assert other.lamps.tobytes() == first.lamps.tobytes()
    assert Drive(12, "train").scene(8.0).boxes.tobytes() != first.boxes.tobytes()
    assert Drive(11, "val").scene(8.0).boxes.tobytes() != first.boxes.tobytes()


def test_a_drive_pickles_without_what_it_remembers():
    drive = Drive(2, "val")
    bare = len(pickle.dumps(drive))
    drive.scene(1.0)
    assert len(pickle.dumps(drive)) == bare


def test_memory_is_bounded_and_does_not_change_the_street(monkeypatch):
    whole = Drive(4, "train").scene(3.0)
    monkeypatch.setattr("lemumo_core.world.road.CACHED", 10)
    drive = Drive(4, "train")
    scene = drive.scene(3.0)
    assert len(drive._cache) <= 10
    assert scene.solids.tobytes() == whole.solids.tobytes()


def test_scenery_stands_beside_the_road_and_its_plates_face_the_traffic():
    signs = 0
    for seed in range(4):
        drive = Drive(seed, "train")
        solids = drive.scene(3.0).solids
        posts = solids[(solids["label"] == SEGMENTATION_IDS["pole"]) & (solids["half"][:, 2] > 1)]
        posts = posts[posts["center"][:, 2] < 5]
        across = posts["center"][:, 1] - drive.middle(posts["center"][:, 0])
        assert (np.abs(across) > drive.half_m).all()
        for plate in solids[solids["label"] == SEGMENTATION_IDS["sign"]]:
            offset = plate["center"] - posts["center"]
            post = offset[np.hypot(offset[:, 0], offset[:, 1]).argmin()]
            side = np.sign(plate["center"][1] - drive.middle(plate["center"][0]))
            if abs(post[0]) > 0.02:  # the housing of a signal is on its post
                signs += 1
                # Those on the right (side -1) look back along x, those on the left along it.
                assert np.sign(post[0]) == side
    assert signs > 10


@pytest.mark.parametrize(
    ("seed", "split", "named"), [(1, "dev", "train, val, test"), (-1, "val", "-1")]
)
def test_bad_arguments_are_named(seed, split, named):
    with pytest.raises(ValueError, match=named):
        Drive(seed, split)
