"""Which companion, calibration and ground truth belong to an image of a bag."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.helpers.bag_tools import FRAMES, rewrite

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from lemumo_core.bags.matching import nearest
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import make_T


def test_companion_out_of_tolerance_is_none(small_bag, frames, tmp_path):
    def late(raw, message):
        if raw.topic == "/lidar/points":
            late_ns = {2: 60_000_000, 3: 30_000_000}.get(
                [f.companion.stamp_ns for f in frames].index(raw.stamp_ns), 0
            )
            message.header.stamp.nanosec += late_ns  # stays below a second
        return raw.stamp_ns, message

    gap_ns = min(np.diff([frame.stamp_ns for frame in frames]))
    assert gap_ns >= 100_000_000
    source = Bags(rewrite(small_bag, tmp_path / "bag", late))
    present = [frame.companion is not None for frame in source]
    assert present == [True, True, False, True, True, True]
    assert source[3].companion.stamp_ns == frames[3].companion.stamp_ns + 30_000_000
    about = source.describe()
    assert about["unmatched_companions"] == about["bags"][0]["unmatched_companions"] == 1
    assert Bags(tmp_path / "bag", tolerance_ms=20)[3].companion is None
    assert Bags(tmp_path / "bag", tolerance_ms=60)[2].companion is not None


def test_nearest_equals_a_loop():
    rng = np.random.default_rng(1)
    for _ in range(200):
        candidates = rng.integers(0, 60, rng.integers(0, 8))
        stamps = rng.integers(0, 60, 10)
        for stamp, found in zip(stamps, nearest(candidates, stamps, 6), strict=True):
            gaps = np.abs(candidates - stamp)
            if len(gaps) == 0 or gaps.min() > 6:
                assert found == -1
            else:
                assert gaps[found] == gaps.min()
                assert candidates[found] == candidates[gaps == gaps.min()].min()


def test_ground_truth_belongs_to_one_image_only(small_bag, frames, tmp_path):
    def sparse(raw, message):
        keep = raw.stamp_ns in (frames[1].stamp_ns, frames[4].stamp_ns)
        return (raw.stamp_ns, raw.data) if keep or "ground_truth" not in raw.topic else None

    source = Bags(rewrite(small_bag, tmp_path / "bag", sparse), tolerance_ms=1000)
    assert [i for i in range(FRAMES) if source[i].labels is not None] == [1, 4]


def test_calibration_changes_with_time(small_bag, frames, tmp_path):
    def zoomed(raw, message):
        if raw.topic == "/camera/camera_info":
            if raw.stamp_ns == frames[0].stamp_ns:
                return None  # the first image has none before it
            if raw.stamp_ns >= frames[4].stamp_ns:
                message.k[0] *= 1.5
        return raw.stamp_ns, message

    source = Bags(rewrite(small_bag, tmp_path / "bag", zoomed))
    fx = frames[0].camera.fx
    assert [frame.camera.fx for frame in source] == [fx] * 4 + [1.5 * fx] * 2
    assert len(source.bags[0].index.messages["camera_info"]) == 2


def test_given_extrinsics_win(small_bag, tmp_path):
    T = make_T(np.eye(3), np.array([1.0, 2, 3]))
    bare = rewrite(
        small_bag,
        tmp_path / "bag",
        lambda raw, message: None if raw.topic == "/tf_static" else (raw.stamp_ns, raw.data),
    )
    frame = Bags(bare, T_camera_companion=T)[0]
    np.testing.assert_array_equal(frame.companion.T_camera_lidar, T)
    by_row = Bags(bare, T_camera_companion=T.ravel())[0]
    np.testing.assert_array_equal(by_row.companion.T_camera_lidar, T)
    with pytest.raises(Fault, match=r"rotation|rigid"):
        Bags(bare, T_camera_companion=2 * T)


def test_rectified_images_turn_everything_with_them(small_bag, frames, tmp_path):
    a = np.deg2rad(5)
    R = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])

    def turned(raw, message):
        if raw.topic == "/camera/camera_info":
            message.r[:] = R.ravel()
            message.p[0] *= 1.25
        return raw.stamp_ns, message

    path = rewrite(small_bag, tmp_path / "bag", turned)
    original, frame = Bags(path)[0], Bags(path, rectified=True)[0]
    assert frame.camera == dataclasses.replace(original.camera, fx=1.25 * original.camera.fx)
    T = make_T(R, np.zeros(3))
    np.testing.assert_allclose(
        frame.companion.T_camera_lidar, T @ original.companion.T_camera_lidar, atol=1e-9
    )
    centers = original.labels.boxes_3d[:, :3] @ R.T
    np.testing.assert_allclose(frame.labels.boxes_3d[:, :3], centers, atol=1e-4)
    turn = frame.labels.boxes_3d[:, 6] - original.labels.boxes_3d[:, 6]
    np.testing.assert_allclose(np.angle(np.exp(1j * turn)), a, atol=1e-6)
