"""Proposals: smoothing, LiDAR evidence, tracks over a recording, and what is written of them."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli.label import main as label
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.folders.local import LocalFolder
from lemumo_core.frame import UNLABELLED, Detections, Labels, LidarScan
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, transform
from lemumo_core.label.agreement import SeenMap, agreeing_labels
from lemumo_core.label.formats import label_format
from lemumo_core.label.frame_names import name_of
from lemumo_core.label.lidar_evidence import CORE, INSIDE, lidar_evidence
from lemumo_core.label.object_tracks import SeenFrame
from lemumo_core.label.proposals import propose
from lemumo_core.label.proposed import ProposedLabels
from lemumo_core.label.smoothing import smooth
from lemumo_core.streaming.kalman import ACCELERATION_MPS2, INITIAL_SPEED_MPS
from tests.helpers.small_frames import Frames, small_frames

CAMERA = Camera(200, 100, 150.0, 150.0, 99.5, 49.5)
LIDAR = make_T(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.0, -0.5, 0.0]))
"""T_camera_lidar."""


def test_smoothing_is_the_least_squares_solution() -> None:
    """Held against one linear system of all states, solved at once."""
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.uniform(0.05, 0.3, 7))
    noise = np.stack([np.diag(rng.uniform(0.05, 0.5, 3)) for _ in seconds])
    positions = rng.normal(0, 3, (7, 3))
    positions[[2, 5]] = np.nan
    found, covariances = smooth(seconds, positions, noise)
    information, vector = np.zeros((42, 42)), np.zeros(42)
    information[3:6, 3:6] += np.eye(3) / INITIAL_SPEED_MPS**2
    for i, position in enumerate(positions):
        if np.isfinite(position).all():
            at = slice(6 * i, 6 * i + 3)
            information[at, at] += np.linalg.inv(noise[i])
            vector[at] += np.linalg.solve(noise[i], position)
    for i, dt in enumerate(np.diff(seconds)):
        gain = ACCELERATION_MPS2 * np.concatenate([dt**2 / 2 * np.eye(3), dt * np.eye(3)])
        Q = np.linalg.inv(gain @ gain.T + 1e-12 * np.eye(6))
        F = np.eye(6)
        F[:3, 3:] = dt * np.eye(3)
        step = np.hstack([-F, np.eye(6)])
        at = slice(6 * i, 6 * i + 12)
        information[at, at] += step.T @ Q @ step
    expected = np.linalg.solve(information, vector).reshape(7, 6)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    blocks = np.linalg.inv(information).reshape(7, 6, 7, 6)[range(7), :, range(7)]
    np.testing.assert_allclose(covariances, blocks, atol=2e-3)


def test_rays_end_in_solid_boxes_and_pass_through_empty_ones() -> None:
    """Held against sampling along every ray."""
    rng = np.random.default_rng(1)
    points = rng.uniform((2, -8, -2), (30, 8, 2), (300, 3)).astype(np.float32)
    points[:5] = np.nan, 0, 0
    points[5] = 0
    boxes = rng.uniform((-5, -1, 4, 1, 1, 1, -3), (5, 1, 25, 5, 3, 3, 3), (12, 7))
    inside, through = lidar_evidence(boxes, LidarScan(points, LIDAR, 0))
    origin, ends = LIDAR[:3, 3], transform(LIDAR, points[6:].astype(np.float64))
    along = np.linspace(0, 1, 1001)[:, None]
    for box, ins, thr in zip(boxes, inside, through, strict=True):
        corners = box_corners(box[None])[0]
        axes = (corners[[0, 0, 1]] - corners[[4, 2, 0]]) / box[3:6, None]
        assert ins == (np.abs((ends - box[:3]) @ axes.T) <= INSIDE * box[3:6] / 2).all(1).sum()
        expected = []
        for end in ends:
            ray = origin + along * (end - origin)
            core = (np.abs((ray - box[:3]) @ axes.T) <= CORE * box[3:6] / 2).all(1)
            last = along[core.nonzero()[0][-1], 0] if core.any() else 2.0
            expected.append((1 - last) * np.linalg.norm(end - origin) > 0.5)
        assert abs(thr - sum(expected)) <= 1  # of rays that graze an edge
    assert inside.sum() > 10 and through.sum() > 100


def recording() -> tuple[list[SeenFrame], list[LidarScan]]:
    """A parked and a moving car before a camera that drives, with sweeps that meet them.

    The parked one is missed in three frames, and the headings of both are noise.
    """
    rng = np.random.default_rng(2)
    frames, scans = [], []
    for i in range(12):
        T_fixed_camera = make_T(np.eye(3), np.array([0.0, 0.0, 0.5 * i]))
        centers = np.array([[-3.0, 0.5, 18.0], [3.0, 0.5, 12.0 + i]])
        true = [
            [*transform(inverse(T_fixed_camera), c[None])[0], 4, 2, 1.6, np.pi / 2] for c in centers
        ]
        surface = [
            c + rng.uniform(-1, 1, (400, 3)) * (0.9, 0.7, 0.05) - (0, 0, 1.9)
            for c in np.array(true)[:, :3]
        ]
        wall = rng.uniform((-15, -2, 55), (15, 2, 56), (6000, 3))
        hidden = np.zeros(len(wall), bool)
        for x, y, z in np.array(true)[:, :3]:
            scale = z / wall[:, 2]
            hidden |= (np.abs(wall[:, 0] * scale - x) < 1) & (np.abs(wall[:, 1] * scale - y) < 0.8)
        ends = np.concatenate([*surface, wall[~hidden]])
        scans.append(LidarScan(transform(inverse(LIDAR), ends).astype(np.float32), LIDAR, i))
        boxes = np.array(true) + rng.normal(0, 0.15, (2, 7))
        if i % 2:
            boxes[:, 6] += np.pi
        if i in (4, 5, 7):
            boxes = boxes[1:]
        boxes = np.concatenate([boxes, [[8, 0, 30, 4, 2, 1.6, 0]]] if i == 6 else [boxes])
        count = len(boxes)
        scores = np.full(count, 0.5, np.float32)
        ids = np.zeros(count, np.int64)
        found = Detections(boxes.astype(np.float32), np.zeros((count, 4)), scores, ids)
        frames.append(SeenFrame(i, 100_000_000 * i, T_fixed_camera, CAMERA, found))
    return frames, scans


@pytest.mark.parametrize("with_lidar", [True, False])
def test_a_recording_knows_more_than_its_frames(with_lidar) -> None:
    frames, scans = recording()
    found = propose(frames, scans.__getitem__ if with_lidar else lambda i: None, np.zeros(1, int))
    parked, moving = [], []
    for frame, one in zip(frames, found, strict=True):
        found_again = one.boxes_3d[one.confidence > 0.3]
        assert len(found_again) == 2  # also where one was missed; what was seen once is doubtful
        left, right = found_again[np.argsort(found_again[:, 0])].astype(np.float64)
        parked.append([*transform(frame.T_fixed_camera, left[None, :3])[0], left[6]])
        moving.append([*transform(frame.T_fixed_camera, right[None, :3])[0], right[6]])
    once = found[6].confidence[found[6].boxes_3d[:, 0] > 6]
    np.testing.assert_allclose(once, 0.5 / 3, atol=1e-6)
    parked, moving = np.array(parked), np.array(moving)
    assert (np.ptp(parked, axis=0).max() < 1e-4) == with_lidar  # one place, only if it is known
    np.testing.assert_allclose(parked[:, :3], np.tile([-3, 0.5, 18], (12, 1)), atol=0.35)
    true = np.stack([np.full(12, 3.0), np.full(12, 0.5), 12.0 + np.arange(12)], axis=1)
    np.testing.assert_allclose(moving[:, :3], true, atol=0.35)
    # It drives along +z, and a heading is along (cos yaw, 0, -sin yaw).
    np.testing.assert_allclose(moving[2:, 3], -np.pi / 2, atol=0.15)


def test_labels_stay_where_other_frames_agree() -> None:
    camera = Camera(8, 4, 8.0, 8.0, 3.5, 1.5)
    depth_m = np.full((4, 8), 8.0)
    labels = np.tile(np.arange(8, dtype=np.uint8), (4, 1))
    other = labels.copy()
    one = SeenMap(labels, depth_m, camera, np.eye(4))
    # A metre to the right at 8 m is a pixel to the left.
    T = make_T(np.eye(3), np.array([1.0, 0, 0]))
    shifted = np.roll(other, -1, axis=1)
    shifted[1, 2] = 77  # shows column 3
    shifted[2, 4] = UNLABELLED
    near = depth_m.copy()
    shifted[3, 0], near[3, 0] = 77, 2.0  # hides column 1
    depth_m[0, 0] = np.nan
    found = agreeing_labels(one, [SeenMap(shifted, near, camera, T)])
    expected = labels.copy()
    expected[1, 3] = UNLABELLED
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(agreeing_labels(one, []), labels)


def test_a_bag_becomes_shards_topics_and_files_with_confidence(toy_package, tmp_path) -> None:
    """The toy model finds a car of score .9 and a cyclist of .5 in the same place every time."""
    frames = Frames(replace(frame, labels=None) for frame in small_frames(4))
    write_bag(frames, tmp_path / "bag")
    words = ["propose", str(tmp_path / "bag"), "--model", str(toy_package)]
    words += ["--backend", "onnxruntime", "--threshold", "0.4", "--out"]
    assert label([*words, str(tmp_path / "proposed")]) == 0
    found = list(Shards(tmp_path / "proposed"))
    assert [one.stamp_ns for one in found] == [one.stamp_ns for one in frames]
    for one, frame in zip(found, frames, strict=True):
        labels = one.labels
        assert labels.class_names == ("car",) and len(labels.ignore) == 1
        np.testing.assert_allclose(labels.box_confidence, [4 * 0.9 / 6], atol=1e-3)
        assert labels.track_ids == found[0].labels.track_ids != ()
        assert labels.label_names == ("road", "car", "tree", "sky")
        assert labels.label_map.shape == frame.image.shape[:2]
        np.testing.assert_array_equal(one.image, frame.image)
    assert label([*words, str(tmp_path / "by_two"), "--workers", "2"]) == 0
    for path in (tmp_path / "proposed").iterdir():
        assert (tmp_path / "by_two" / path.name).read_bytes() == path.read_bytes()
    about = json.loads((tmp_path / "proposed/index.json").read_text())["configuration"]["source"]
    assert about["model"] == "toy 1.0" and about["of"]["frames"] == 4

    write_bag(found, tmp_path / "topics")
    for one, back in zip(found, Bags(tmp_path / "topics"), strict=True):
        np.testing.assert_array_equal(back.labels.box_confidence, one.labels.box_confidence)
        assert back.labels.track_ids == one.labels.track_ids
    for name in ("coco", "kitti"):
        label_format(name).write([(name_of(one), one) for one in found], tmp_path / name)
    boxes = json.loads((tmp_path / "coco/annotations.json").read_text())["annotations"]
    np.testing.assert_allclose([box["score"] for box in boxes if "score" in box], 0.6, atol=1e-3)
    line = (tmp_path / f"kitti/training/label_2/{name_of(found[0])}.txt").read_text().split("\n")[0]
    assert float(line.split()[15]) == pytest.approx(0.6, abs=1e-3)


def test_logs_that_follow_one_another_are_no_recording(toy_package, tmp_path) -> None:
    """Their poses are in frames of their own, so that no track goes from one to the next."""
    frames = small_frames(8)
    for name, part in (("a", frames[:4]), ("b", frames[4:])):
        write_bag(part, tmp_path / name)
    words = ["propose", str(tmp_path / "a"), str(tmp_path / "b"), "--model", str(toy_package)]
    words += ["--backend", "onnxruntime", "--threshold", "0.4", "--out", str(tmp_path / "out")]
    assert label(words) == 0
    found = list(Shards(tmp_path / "out"))
    assert [one.stamp_ns for one in found] == [one.stamp_ns for one in frames]
    for one in found:
        np.testing.assert_allclose(one.labels.box_confidence, [4 * 0.9 / 6], atol=1e-3)


def test_models_of_flat_boxes_and_odd_thresholds_are_refused(tmp_path) -> None:
    manifest = SimpleNamespace(numbers_of_box=4, name="flat")
    folder = LocalFolder(tmp_path)
    with pytest.raises(Fault, match="flat detects boxes in the image"):
        ProposedLabels(Frames(), manifest, folder)
    manifest.numbers_of_box = 7
    with pytest.raises(Fault, match=r"threshold is 0\.05"):
        ProposedLabels(Frames(), manifest, folder, 0.05)
    assert Labels().box_confidence is None
