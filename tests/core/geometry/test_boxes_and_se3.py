"""Boxes and rigid transforms against scipy and loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.faults import Fault
from lemumo_core.geometry import se3
from lemumo_core.geometry.boxes import (
    EDGES,
    NEAR_M,
    box_corners,
    box_rotation,
    clip_edges,
    count_points,
    image_bounds,
    points_in_box,
)
from lemumo_core.geometry.camera import Camera

RNG = np.random.default_rng(1)
BOX = np.array([1.0, 0.5, 12.0, 4.0, 1.8, 1.5, 0.7])


def test_quaternions_are_scipys() -> None:
    for rotation in Rotation.random(200, random_state=2):
        x, y, z, w = rotation.as_quat()
        np.testing.assert_allclose(se3.rotation_from_quaternion(w, x, y, z), rotation.as_matrix())
        ours = np.array(se3.quaternion_from_rotation(rotation.as_matrix()))
        expected = np.array([w, x, y, z]) * (1 if w >= 0 else -1)
        np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_inverse_and_transform() -> None:
    T = se3.make_T(Rotation.random(random_state=3).as_matrix(), RNG.normal(size=3))
    np.testing.assert_allclose(se3.inverse(T), np.linalg.inv(T), atol=1e-12)
    points = RNG.normal(size=(20, 3))
    expected = [(T @ [*p, 1])[:3] for p in points]
    np.testing.assert_allclose(se3.transform(T, points), expected)


@pytest.mark.parametrize("T", [np.eye(3), np.diag([1.0, 1, -1, 1]), np.diag([2.0, 2, 2, 1])])
def test_what_is_not_rigid_is_refused(T) -> None:
    with pytest.raises(Fault, match="extrinsics"):
        se3.check_rigid(T, "extrinsics")


def test_box_axes() -> None:
    for yaw in RNG.uniform(-np.pi, np.pi, 20):
        R = box_rotation(yaw)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
        np.testing.assert_allclose(R[:, 0], [np.cos(yaw), 0, -np.sin(yaw)], atol=1e-12)
        np.testing.assert_allclose(R[:, 2], [0, -1, 0], atol=1e-12)


def test_corners_by_hand() -> None:
    corners = box_corners(np.array([[1.0, 2.0, 10.0, 4.0, 2.0, 1.0, 0.0]]))[0]
    # Yaw 0: length along x (right), left is away from the camera, up is -y.
    np.testing.assert_allclose(corners[0], [3.0, 2.5, 11.0])  # front left bottom
    np.testing.assert_allclose(corners[7], [-1.0, 1.5, 9.0])  # rear right top


def test_points_in_box() -> None:
    corners = box_corners(BOX[None])[0]
    center = BOX[:3]
    assert points_in_box(center + 0.99 * (corners - center), BOX).all()
    assert not points_in_box(center + 1.01 * (corners - center), BOX).any()


def test_image_bounds_hold_a_dense_sampling() -> None:
    camera = Camera(640, 480, 500, 500, 320, 240, "plumb_bob", (-0.2, 0.05, 0.0, 0.0))
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 30)] * 3), -1).reshape(-1, 3)
    points = (grid * BOX[3:6]) @ box_rotation(BOX[6]).T + BOX[:3]
    uv, _ = camera.project(points)
    expected = [*uv.min(axis=0), *uv.max(axis=0)]
    np.testing.assert_allclose(image_bounds(BOX[None], camera)[0], expected, atol=1.0)


def test_image_bounds_of_boxes_beside_and_behind() -> None:
    camera = Camera(640, 480, 500, 500, 320, 240)
    behind, around = BOX.copy(), BOX.copy()
    behind[2] = -12.0
    around[:3] = [1.5, 0.5, 1.0]  # reaches behind the camera: its visible part counts
    bounds = image_bounds(np.stack([behind, around]), camera)
    assert (bounds[0] == 0).all()
    assert bounds[1, 2] == 639 and bounds[1, 0] >= 0


def clip_edges_by_loop(corners: np.ndarray) -> np.ndarray:
    segments = []
    for a, b in EDGES:
        p, q = corners[a], corners[b]
        if p[2] < NEAR_M and q[2] < NEAR_M:
            continue
        if p[2] < NEAR_M or q[2] < NEAR_M:
            cut = p + (q - p) * (NEAR_M - p[2]) / (q[2] - p[2])
            p, q = (cut, q) if p[2] < NEAR_M else (p, cut)
        segments.append((p, q))
    return np.array(segments).reshape(-1, 2, 3)


def image_bounds_by_loop(boxes: np.ndarray, camera: Camera) -> np.ndarray:
    bounds = np.zeros((len(boxes), 4), np.float32)
    limits = np.array([camera.width - 1, camera.height - 1], np.float64)
    for i, corners in enumerate(box_corners(np.asarray(boxes, np.float64))):
        uv, valid = camera.project(clip_edges_by_loop(corners).reshape(-1, 3))
        if valid.any():
            low, high = uv[valid].min(axis=0), uv[valid].max(axis=0)
            if (high >= 0).all() and (low <= limits).all():
                bounds[i] = [*np.clip(low, 0, limits), *np.clip(high, 0, limits)]
    return bounds


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("pinhole", ()),
        ("plumb_bob", (-0.3, 0.1, 1e-3, -1e-3)),
        ("equidistant", (0.05, -0.01, 0.0, 0.0)),
    ],
)
def test_boxes_together_are_boxes_one_by_one(model, distortion) -> None:
    camera = Camera(640, 480, 500, 500, 320, 240, model, distortion)
    low = [-20, -3, -8, 0.3, 0.3, 0.3, -np.pi]
    boxes = np.random.default_rng(4).uniform(low, [20, 3, 40, 12, 3, 4, np.pi], (500, 7))
    boxes[0] = np.nan
    boxes[1, 2] = np.inf
    bounds = image_bounds(boxes, camera)
    assert bounds.dtype == np.float32
    assert np.array_equal(bounds, image_bounds_by_loop(boxes, camera))
    assert 50 < bounds.any(axis=1).sum() < 450
    assert image_bounds(boxes[:0], camera).shape == (0, 4)
    across = 0
    for corners in box_corners(boxes[2:]):
        expected = clip_edges_by_loop(corners)
        assert np.array_equal(clip_edges(corners), expected)
        across += 0 < len(expected) < len(EDGES)
    assert across > 10


def test_counts_are_those_of_every_point_in_every_box():
    rng = np.random.default_rng(0)
    points = rng.uniform(-30, 30, (4000, 3))
    boxes = np.column_stack(
        [rng.uniform(-20, 20, (6, 3)), rng.uniform(2, 12, (6, 3)), rng.uniform(-3, 3, 6)]
    )
    expected = [points_in_box(points, box).sum() for box in boxes]
    assert sum(expected) > 20
    assert count_points(points, boxes).tolist() == expected
    assert count_points(points, boxes[:0]).shape == (0,)
