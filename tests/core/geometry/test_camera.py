"""Camera models against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera

PLUMB_BOB = (-0.36, 0.15, 1e-3, -8e-4, -0.03)
RATIONAL = (0.5, -0.3, 1e-3, -5e-4, 0.02, 0.8, -0.2, 0.05)
FISHEYE = (0.03, -0.01, 0.004, -0.001)
CAMERAS = {
    "pinhole": Camera(640, 480, 500, 510, 322, 238),
    "plumb_bob 4": Camera(640, 480, 500, 510, 322, 238, "plumb_bob", PLUMB_BOB[:4]),
    "plumb_bob 5": Camera(640, 480, 500, 510, 322, 238, "plumb_bob", PLUMB_BOB),
    "rational": Camera(640, 480, 500, 510, 322, 238, "rational_polynomial", RATIONAL),
    "fisheye": Camera(640, 480, 250, 255, 322, 238, "equidistant", FISHEYE),
}
each_camera = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)


def points_in_view(camera: Camera, count: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    reach = 1.5 if camera.model == "equidistant" else 0.55
    z = rng.uniform(0.5, 60, (count, 1))
    return np.hstack([rng.uniform(-reach, reach, (count, 2)) * z, z])


@each_camera
def test_projection_is_opencvs(camera) -> None:
    points = points_in_view(camera)
    coefficients = np.array(camera.distortion)
    project = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    shape = (-1, 1, 3)
    zero = np.zeros(3)
    D = coefficients if len(coefficients) else None
    expected, _ = project(np.ascontiguousarray(points.reshape(shape)), zero, zero, camera.K, D)
    uv, valid = camera.project(points)
    assert valid.all()
    np.testing.assert_allclose(uv, expected[:, 0], atol=1e-6)
    single, _ = camera.project(points.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, uv, atol=1e-2)


@each_camera
def test_unprojection_is_the_inverse(camera) -> None:
    points = points_in_view(camera)
    uv, _ = camera.project(points)
    np.testing.assert_allclose(camera.unproject(uv), points / points[:, 2:], atol=1e-6)


@each_camera
def test_scale_crop_and_flip_move_the_pixels(camera) -> None:
    points = points_in_view(camera)
    uv, _ = camera.project(points)
    scaled, _ = camera.scaled(320, 120).project(points)
    np.testing.assert_allclose(scaled, (uv + 0.5) * [0.5, 0.25] - 0.5, atol=1e-9)
    cropped, _ = camera.cropped(30, -20, 100, 80).project(points)
    np.testing.assert_allclose(cropped, uv - [30, -20], atol=1e-9)
    flipped, _ = camera.flipped().project(points * [-1, 1, 1])
    np.testing.assert_allclose(flipped, np.array([639, 0]) + uv * [-1, 1], atol=1e-9)


@pytest.mark.parametrize("name", ["plumb_bob 5", "fisheye"])
def test_points_past_the_fold_do_not_come_back_into_the_image(name) -> None:
    """The polynomial turns round; OpenCV would place such points inside the image."""
    camera = CAMERAS[name]
    if name == "fisheye":
        camera = Camera(640, 480, 250, 255, 322, 238, "equidistant", (-0.3, 0.0, 0.0, 0.0))
    edge = camera.max_radius
    assert 0.5 < edge < 100
    inside, outside = (np.array([[edge * f, 0.0, 1.0]]) for f in (0.99, 1.01))
    assert camera.project(inside)[1].all()
    uv, valid = camera.project(outside)
    assert not valid.any() and np.isnan(uv).all()


def test_points_behind_or_not_finite_are_invalid() -> None:
    bad = [[0, 0, -1], [0, 0, 0], [np.nan, 0, 1], [0, np.inf, 1], [0, 0, np.inf]]
    uv, valid = CAMERAS["pinhole"].project(np.array(bad, np.float64))
    assert not valid.any() and np.isnan(uv).all()


def test_from_calibration_knows_the_names() -> None:
    K = [500, 0, 320, 0, 500, 240, 0, 0, 1]
    assert Camera.from_calibration(640, 480, K, "plumb_bob", [0] * 5).model == "pinhole"
    assert Camera.from_calibration(640, 480, K, "fisheye", FISHEYE).model == "equidistant"
    assert Camera.from_calibration(640, 480, K, "", []).model == "pinhole"


@pytest.mark.parametrize(
    ("K", "model", "D", "words"),
    [
        ([0] * 9, "plumb_bob", [], "not calibrated"),
        ([1, 0, 0, 0, 1, 0, 0, 0], "pinhole", [], "9 numbers"),
        ([np.nan, 0, 1, 0, 1, 1, 0, 0, 1], "pinhole", [], "not finite"),
        ([1, 0, 1, 0, 1, 1, 0, 0, 1], "mei", [1.0], "unknown distortion model 'mei'"),
        ([1, 0, 1, 0, 1, 1, 0, 0, 1], "plumb_bob", [1.0], "4 or 5 or 8"),
        ([1, 0, 1, 0, 1, 1, 0, 0, 1], "pinhole", [1.0], "no distortion"),
        ([500, 3.5, 320, 0, 500, 240, 0, 0, 1], "plumb_bob", [], "a skew of 3.5 px"),
        ([500, 0, 320, 0, 500, 240, 0, 0, 1], "plumb_bob", [0.1] * 14, "thin prism and tilt"),
    ],
)
def test_bad_calibration_is_named(K, model, D, words) -> None:
    with pytest.raises(Fault, match=words) as error:
        Camera.from_calibration(640, 480, K, model, D)
    assert error.value.reason == "bad_camera"
