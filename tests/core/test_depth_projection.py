"""Depth maps against a z-buffer loop written from the definition, and against real sensors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.depth_projection import nearest_returns, project_depth, project_returns, visible
from lemumo_core.geometry import se3
from lemumo_core.geometry.camera import Camera

# Camera axes (right, down, forward) of a LiDAR's (forward, left, up).
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])
CAMERAS = [
    Camera(160, 96, 120, 118, 80.3, 47.1),
    Camera(160, 96, 120, 118, 80.3, 47.1, "plumb_bob", (-0.3, 0.1, 1e-3, 1e-3, 0.0)),
    Camera(160, 96, 60, 60, 80.3, 47.1, "equidistant", (0.02, -0.01, 0.0, 0.0)),
]


def by_loop(points, T, camera, z_min):
    depth = np.full((camera.height, camera.width), np.nan, np.float32)
    for point in points:
        x, y, z = (T @ [*point[:3], 1.0])[:3]
        if not np.isfinite([x, y, z]).all() or z <= z_min:
            continue
        uv, valid = camera.project(np.array([[x, y, z]]))
        if not valid[0]:
            continue
        column, row = np.floor(uv[0] + 0.5).astype(int)
        inside = 0 <= column < camera.width and 0 <= row < camera.height
        if inside and not depth[row, column] <= z:
            depth[row, column] = z
    return depth


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_equals_a_loop(camera) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-5, -20, -8, 0], [40, 20, 8, 1], (4000, 4)).astype(np.float32)
    ours = project_depth(points, T_CAMERA_LIDAR, camera, 1.0)
    expected = by_loop(points.astype(np.float64), T_CAMERA_LIDAR, camera, 1.0)
    assert np.isfinite(expected).sum() > 500
    # float32 may put a point that falls on a pixel's edge on its other side
    same = np.isclose(ours, expected, atol=1e-4, equal_nan=True)
    assert (~same).sum() <= 2
    assert np.array_equal(ours, project_depth(points, T_CAMERA_LIDAR, camera, 1.0), equal_nan=True)


def test_nearest_wins_and_no_depth_is_invented() -> None:
    depths = np.array([9.0, 3.0, 7.0], np.float32)
    points = np.stack([depths, 0 * depths, 0 * depths], axis=1)
    T = T_CAMERA_LIDAR.copy()
    T[:3, 3] = 0
    depth = project_depth(points, T, CAMERAS[0], 1.0)
    assert depth[np.isfinite(depth)].tolist() == [3.0]


def test_what_another_return_hides_from_the_camera_is_not_visible() -> None:
    """By loops, over squares of half a degree, at least a pixel wide."""
    rng = np.random.default_rng(1)
    points = rng.uniform([2, -20, -8, 0], [40, 20, 8, 1], (3000, 4)).astype(np.float32)
    for camera in (CAMERAS[0], CAMERAS[0].scaled(640, 384)):
        found = project_returns(points, T_CAMERA_LIDAR, camera, 1.0)
        side = max(1.0, camera.fx * np.radians(0.5))
        squares: dict[tuple[int, int], list[int]] = {}
        for i, (u, v) in enumerate(zip(found.u, found.v, strict=True)):
            at = int((u - camera.cx) // side), int((v - camera.cy) // side)
            squares.setdefault(at, []).append(i)
        seen = {
            i
            for inside in squares.values()
            for i in inside
            if found.depth_m[i] <= 1.05 * min(found.depth_m[inside])
        }
        assert 100 < len(seen) < len(found.u)
        expected = found.row[sorted(seen)]
        assert len(np.setxor1d(visible(found, camera).row, expected)) <= 2  # rounding at edges
        nearest = nearest_returns(points, T_CAMERA_LIDAR, camera, 1.0, places=True)
        assert 0 < len(nearest.pixel) <= len(seen) + 2 and np.abs(nearest.places).max() <= 0.5


@pytest.mark.filterwarnings("error")
def test_bad_points_are_dropped() -> None:
    values = [np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-42, 0.5]
    bad = [[x, 0, 0] for x in values] + [[5, y, 0] for y in values[:5]] + [[5, 0, np.nan]]
    depth = project_depth(np.array(bad, np.float32), T_CAMERA_LIDAR, CAMERAS[0], 1.0)
    assert set(depth[np.isfinite(depth)]) <= {np.float32(1e38)}
    empty = project_depth(np.empty((0, 3), np.float32), T_CAMERA_LIDAR, CAMERAS[0], 1.0)
    assert empty.shape == (96, 160) and np.isnan(empty).all()


def test_exact_zeros_are_no_returns() -> None:
    """A beam without a return, as (0, 0, 0), must not become depth where the LiDAR stands."""
    T = np.eye(4)
    T[2, 3] = 1.5  # the LiDAR stands in view of the camera
    zeros = [[0, 0, 0, 9], [-0.0, 0, 0, 0], [0, -0.0, 0, np.nan]]
    near = [[0, 0, 1e-6, 0], [0.3, 0, 0, 0], [0, 0.2, 0, 0]]
    points = np.array(zeros + near, np.float32)
    seen = project_returns(points, T, CAMERAS[0], 1.0)
    assert seen.row.tolist() == [3, 4, 5]
    depth = project_depth(np.zeros((50, 3), np.float32), T, CAMERAS[0], 1.0)
    assert np.isnan(depth).all()


def test_nuscenes_projection_is_the_devkits(shared_data) -> None:
    utils = pytest.importorskip("nuscenes.utils.geometry_utils", reason="needs nuscenes-devkit")
    frame = NuScenes(shared_data / "nuscenes_mini_tables")[0]
    in_camera = se3.transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3])
    ahead = in_camera[:, 2] > 1.0
    expected = utils.view_points(in_camera[ahead].T.astype(np.float64), frame.camera.K, True)
    uv, valid = frame.camera.project(in_camera[ahead])
    assert valid.all() and ahead.sum() > 5000
    near = np.abs(expected[:2].T).max(axis=1) < 5000
    np.testing.assert_allclose(uv[near], expected[:2].T[near], atol=0.05)


def test_a_real_fisheye_scan_lands_where_opencv_puts_it(shared_data) -> None:
    """ACFR: the file gives the camera in the LiDAR frame, so the pose is inverted."""
    cv2 = pytest.importorskip("cv2")
    folder = shared_data / "acfr_vlp" / "data" / "vlp"
    poses = np.loadtxt(folder / "calibration_quickstart.csv", delimiter=",", skiprows=1)
    roll, pitch, yaw, *t = np.median(poses, axis=0)
    R = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    T = se3.inverse(se3.make_T(R, np.array(t)))
    points = np.loadtxt(folder / "pcd" / "pose1_full.pcd", skiprows=11)[:, :3]
    K = [1176.93, 0, 962.275, 0, 1177.72, 612.725, 0, 0, 1]
    D = [-0.0540096, -0.0784275, 0.0959641, -0.0515253]
    camera = Camera.from_calibration(1920, 1208, K, "fisheye", D)
    in_camera = se3.transform(T, points)
    uv, valid = camera.project(in_camera, z_min=1.0)
    seen = valid & (uv >= 0).all(1) & (uv < [camera.width, camera.height]).all(1)
    assert seen.sum() > 5000
    ahead = np.ascontiguousarray(in_camera[seen].reshape(-1, 1, 3))
    zero = np.zeros(3)
    expected, _ = cv2.fisheye.projectPoints(ahead, zero, zero, camera.K, np.array(D))
    np.testing.assert_allclose(uv[seen], expected[:, 0], atol=1e-6)
    depth = project_depth(points.astype(np.float32), T, camera, 1.0)
    assert abs(np.isfinite(depth).sum() - seen.sum()) < 0.01 * seen.sum()


def test_kitti_edges_line_up_only_with_the_true_extrinsics(shared_data) -> None:
    """Depth edges lie on image edges; a turn by one degree takes them off."""
    cv2 = pytest.importorskip("cv2")
    source = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")
    for frame in (source[0], source[8]):
        gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        edges = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0))
        edges = cv2.GaussianBlur(edges, (0, 0), 2)

        def score(degrees: float, frame=frame, edges=edges) -> float:
            angle = np.radians(degrees)
            turn = se3.make_T(box_turn(angle), np.zeros(3))
            T = turn @ frame.companion.T_camera_lidar
            points = se3.transform(T, frame.companion.points[:, :3])
            jump = points[1:, 2] - points[:-1, 2]
            points = points[:-1][(jump > 1.0) & (points[:-1, 2] > 1)]
            uv, valid = frame.camera.project(points)
            uv = uv[valid].round().astype(int)
            inside = (uv >= 0).all(1) & (uv < [frame.camera.width, frame.camera.height]).all(1)
            return float(edges[uv[inside, 1], uv[inside, 0]].mean())

        assert score(0.0) > 1.05 * max(score(-1.0), score(1.0))


def box_turn(angle: float) -> np.ndarray:
    """Rotation about the camera's vertical axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
