"""Names and lists of distortion as drivers write them, against OpenCV's own projection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.distortion import distortion_from

K = np.array([[400.0, 0, 320], [0, 410, 240], [0, 0, 1]])
KB = (-0.0043, 0.0371, -0.0355, 0.0058)
BROWN = (-0.21, 0.05, 1e-3, -5e-4, 0.01)
RATIONAL = (0.4, -0.1, 1e-4, -2e-4, 0.02, 0.6, -0.05, 0.01)
POINTS = np.random.default_rng(0).uniform([-2, -1.5, 3], [2, 1.5, 9], (200, 3))


@pytest.mark.parametrize(
    ("name", "D"),
    [
        ("plumb_bob", (*BROWN, 0, 0, 0)),
        ("plumb_bob", (*BROWN, *[0] * 9)),
        ("plumb_bob", (*BROWN[:2], 0, 0, *[0] * 8)),
        ("plumb_bob", RATIONAL),  # image_geometry goes by the length
        ("Plumb Bob", BROWN[:4]),
        ("radtan", BROWN[:4]),
        ("Brown-Conrady", BROWN),
        ("", BROWN),
        ("rational_polynomial", BROWN),
        ("RATIONAL_POLYNOMIAL", (*RATIONAL, *[0] * 4)),
        ("rational_polynomial", (*RATIONAL, *[0] * 6)),
    ],
)
def test_polynomials_are_what_opencv_makes_of_the_list(name, D) -> None:
    camera = Camera.from_calibration(640, 480, K, name, D)
    expected, _ = cv2.projectPoints(POINTS, np.zeros(3), np.zeros(3), K, np.array(D))
    uv, valid = camera.project(POINTS)
    assert valid.sum() > 150
    np.testing.assert_allclose(uv[valid], expected[valid, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "D"),
    [
        ("equidistant", (*KB, 0)),
        ("Kannala Brandt4", (*KB, 0)),
        ("kannala_brandt", KB),
        ("KANNALA-BRANDT4", (*KB, *[0] * 8)),
        ("fisheye", KB),
        ("equidistant", [0] * 5),
    ],
)
def test_fisheyes_are_what_opencv_makes_of_four(name, D) -> None:
    camera = Camera.from_calibration(640, 480, K, name, D)
    assert camera.model == "equidistant"
    expected, _ = cv2.fisheye.projectPoints(
        POINTS[:, None], np.zeros(3), np.zeros(3), K, np.array(D[:4], np.float64)
    )
    np.testing.assert_allclose(camera.project(POINTS)[0], expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("name", ["none", "None", "", "pinhole", "plumb_bob", "no distortion"])
@pytest.mark.parametrize("count", [0, 4, 5, 8, 12, 14])
def test_zeros_are_a_pinhole(name, count) -> None:
    assert distortion_from(name, [0.0] * count) == ("pinhole", ())


@pytest.mark.parametrize(
    ("name", "D", "words"),
    [
        ("rational_polynomial", (*RATIONAL, 0.01, 0, 0, 0), "thin prism"),
        ("plumb_bob", (*RATIONAL, *[0] * 5, 0.1), "thin prism"),
        ("equidistant", (*KB, 1e-3), "'equidistant' takes 4 coefficients, D holds 5"),
        ("equidistant", (), "'equidistant' takes 4"),
        ("none", (0.1, 0, 0, 0), "'none' means no distortion"),
        ("inverse_brown_conrady", BROWN, "unknown distortion model 'inverse_brown_conrady'"),
        ("kanala_brandt", KB, "did you mean 'kannala_brandt'"),
        ("double_sphere", (0.1, 0.2), "unknown distortion model"),
    ],
)
def test_what_would_be_wrong_is_refused_by_name(name, D, words) -> None:
    with pytest.raises(Fault, match=words) as error:
        distortion_from(name, D)
    assert error.value.reason == "bad_camera"
