"""Returns as truth: which are masked, where they land, which ones the camera does not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.depth_projection import project_depth
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.masked_returns import (
    mask_returns,
    surely_visible_returns,
    true_labels,
    visible_returns,
)

CAMERA = Camera(200, 100, 100.0, 100.0, 99.5, 49.5)


def frame_of(points, labels: Labels | None = None, T=None) -> Frame:
    scan = LidarScan(np.asarray(points, np.float32), np.eye(4) if T is None else T, 5)
    return Frame(5, "front", CAMERA, None, scan, labels)


@pytest.fixture
def cloud() -> np.ndarray:
    """A wall 20 m away, which hides nothing: 4000 points with a fourth column."""
    rng = np.random.default_rng(0)
    return rng.uniform((-30, -15, 20, 0), (30, 15, 20.5, 1), (4000, 4)).astype(np.float32)


def masked_rows(points: np.ndarray, mask="random") -> set[bytes]:
    kept = {row.tobytes() for row in mask_returns(frame_of(points), mask).companion.points}
    return {row.tobytes() for row in points} - kept


@pytest.mark.parametrize(("mask", "share"), [("random", 0.1), ("beams", 0.5), ("blocks", 0.23)])
def test_a_share_is_masked_and_nothing_is_lost(cloud, mask, share) -> None:
    held = mask_returns(frame_of(cloud), mask)
    count = len(cloud) - len(held.companion.points)
    assert count == pytest.approx(len(cloud) * share, rel=0.15)
    true_m = held.labels.depth_m
    masked = np.array([np.frombuffer(row, np.float32) for row in masked_rows(cloud, mask)])
    uv, _ = CAMERA.project(masked[:, :3].astype(np.float64))
    in_image = (uv > -0.49).all(1) & (uv < (199.49, 99.49)).all(1)
    for (u, v), z in zip(uv[in_image].round().astype(int), masked[in_image, 2], strict=True):
        assert true_m[v, u] <= z  # itself, or a nearer one of the same pixel
    assert np.isfinite(true_m).sum() <= in_image.sum() + 4  # borders
    assert set(true_m[np.isfinite(true_m)]) <= set(masked[:, 2])


def test_blocks_are_those_of_a_chessboard(cloud) -> None:
    shown = mask_returns(frame_of(cloud), "blocks").companion.points
    uv, _ = CAMERA.project(shown[:, :3].astype(np.float64))
    inside = (uv > -0.49).all(1) & (uv < (199.49, 99.49)).all(1)
    assert (((uv[inside] + 0.5) // 25).sum(axis=1) % 2 == 0).all()


def test_the_choice_depends_on_nothing_but_the_point(cloud) -> None:
    """Not on order, neighbours, other columns, stamp or pose."""
    chosen = {row[:12] for row in masked_rows(cloud)}
    order = np.random.default_rng(1).permutation(len(cloud))[:2000]
    again = {row[:12] for row in masked_rows(cloud[order])}
    assert again == chosen & {row.tobytes()[:12] for row in cloud[order]}
    other = cloud * np.array([1, 1, 1, 0.5], np.float32)
    assert {row[:12] for row in masked_rows(other)} == chosen


def test_regular_scans_are_sampled_evenly() -> None:
    """Whatever the layout of a scan: a tenth of each ring, of each column, of round numbers."""
    x, y = np.meshgrid(np.arange(-32, 32) * 0.25, np.arange(-32, 32) * 0.125)
    points = np.stack([x, y, np.full_like(x, 16.0)], axis=-1).astype(np.float32)
    masked = masked_rows(points.reshape(-1, 3))
    mask = np.array([[point.tobytes() in masked for point in row] for row in points])
    assert mask.mean() == pytest.approx(0.1, abs=0.015)
    for axis in (0, 1):
        assert mask.mean(axis=axis).max() < 0.3 and mask.mean(axis=axis).std() < 0.06


def test_what_the_camera_cannot_see_is_no_truth() -> None:
    """Points behind a wall, which a LiDAR 2 m above sees over it."""
    x = np.linspace(-8, 8, 400)
    wall = np.stack([x, np.zeros_like(x), np.full_like(x, 10)], axis=1)
    behind = wall * 3.0
    T = make_T(np.eye(3), np.array([0.0, -2.0, 0.0]))
    frame = frame_of(np.vstack([wall, behind]) + np.array([0, 2.0, 0]), T=T)
    true_m = mask_returns(frame, "blocks").labels.depth_m
    assert np.isfinite(true_m).sum() > 50
    assert np.nanmax(true_m) == pytest.approx(10.0)


def test_dense_truth_is_better_than_returns(cloud) -> None:
    dense = frame_of(cloud, Labels(depth_m=np.ones((100, 200), np.float32)))
    assert mask_returns(dense) is dense
    camera_only = replace(dense, companion=None, labels=None)
    assert mask_returns(camera_only) is camera_only
    asked = mask_returns(dense, "random")
    assert np.isnan(asked.labels.depth_m).any() and len(asked.companion.points) < len(cloud)
    with pytest.raises(ValueError, match="unknown mask 'rings'"):
        mask_returns(dense, "rings")


def test_point_labels_follow_their_points(cloud) -> None:
    """And become a map of what the camera sees."""
    ids = (cloud[:, 0] > 0).astype(np.uint8)
    frame = frame_of(cloud, Labels(point_labels=ids))
    held = mask_returns(frame)
    assert (held.labels.point_labels == (held.companion.points[:, 0] > 0)).all()
    label_map = true_labels(held)
    assert label_map.shape == (100, 200) and label_map.dtype == np.uint8
    left, right = label_map[:, :99], label_map[:, 101:]
    assert set(np.unique(left)) == {0, UNLABELLED} and set(np.unique(right)) == {1, UNLABELLED}
    assert true_labels(frame_of(cloud)) is None
    with pytest.raises(Fault, match="3 point labels for 4000 points"):
        true_labels(frame_of(cloud, Labels(point_labels=ids[:3])))
    with pytest.raises(Fault, match="3 point labels"):
        mask_returns(frame_of(cloud, Labels(point_labels=ids[:3])))


@pytest.mark.parametrize("folder", ["kitti_object", "nuscenes_mini_tables"])
def test_on_real_scans(shared_data, folder) -> None:
    """Half is masked, and at least half of what of it falls into the image is truth."""

    source = open_source(
        {"kitti_object": "kitti"}.get(folder, "nuscenes"), root=shared_data / folder
    )
    frame = source[0]
    held = mask_returns(frame)
    scan = frame.companion
    assert 1 - len(held.companion.points) / len(scan.points) == pytest.approx(0.5, abs=0.06)
    truths = np.isfinite(held.labels.depth_m)
    seen = np.isfinite(project_depth(scan.points, scan.T_camera_lidar, frame.camera, 1.0))
    assert 0.25 < truths.sum() / seen.sum() < 0.55
    assert (~seen[truths]).sum() == 0


def test_returns_that_a_roof_may_hide_are_no_truth() -> None:
    """Dense truth of rendered frames knows what the camera sees; returns do not."""
    hidden, shown = np.zeros(2, int), np.zeros(2, int)
    for seed in (0, 3, 5):
        (frame,) = SyntheticStreet(seed, 1, 704, 256)
        before = visible_returns(frame.companion, frame.camera)
        surely = set(surely_visible_returns(frame.companion, frame.camera).row.tolist())
        row, column = (np.rint(at).astype(int) for at in (before.v, before.u))
        around = np.pad(frame.labels.depth_m, 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).max(axis=(2, 3))
        true_m = around[row.clip(0, 255), column.clip(0, 703)]
        kept = np.array([k in surely for k in before.row])
        is_hidden = before.depth_m > 1.5 * true_m  # the farthest pixel around is much nearer
        hidden += is_hidden.sum(), (is_hidden & kept).sum()
        is_shown = before.depth_m < 1.1 * true_m
        shown += is_shown.sum(), (is_shown & kept).sum()
    assert hidden[0] > 50 and hidden[1] < 0.35 * hidden[0]
    assert shown[1] > 0.97 * shown[0]
