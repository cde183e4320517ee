"""Cameras in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform
from lemumo_core.messages.camera_info import (
    camera_from_info,
    camera_of_images,
    images_are_rectified,
    rectifying_transform,
)
from tests.helpers.message_builders import (
    FUZZ,
    NUMBER,
    UINT32,
    fault_of,
    info_message,
    region,
    survives,
)

# --- cameras, transforms, stamps ----------------------------------------------------------------


def test_plain_camera() -> None:
    expected = Camera(640, 480, 500, 510, 320, 240, "plumb_bob", (-0.1, 0.02, 0.001, -0.002, 0.003))
    assert camera_from_info(info_message()) == expected
    assert camera_from_info(info_message(roi=region(0, 0, 640, 480), binning_x=1)) == expected


def test_rectified_camera_takes_P() -> None:
    assert camera_from_info(info_message(), True) == Camera(640, 480, 450, 460, 310, 230)
    assert fault_of(camera_from_info, info_message(p=np.zeros(12)), True).reason == "bad_camera"


def test_region_and_binning_keep_rays() -> None:
    """A binned pixel looks along the mean of the sensor pixels that it is made of."""
    full = camera_from_info(info_message())
    part = camera_from_info(info_message(roi=region(100, 50, 403, 300), binning_x=2, binning_y=4))
    assert (part.width, part.height) == (201, 75)
    part_uv = np.array([[0.0, 0.0], [200.0, 74.0], [90.0, 30.0]])
    full_uv = part_uv * [2, 4] + [100 + 0.5, 50 + 1.5]
    np.testing.assert_allclose(part.unproject(part_uv), full.unproject(full_uv), atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"k": np.zeros(9)},
        {"k": np.full(9, np.nan)},
        {"k": np.ones(8)},
        {"d": np.array([0.1, 0.2, 0.3])},
        {"d": np.full(5, np.inf)},
        {"distortion_model": "magic"},
        {"distortion_model": "equidistant"},
        {"width": 0},
        {"width": 2**32 - 1, "height": 2**32 - 1},
        {"binning_x": 641},
        {"roi": region(600, 0, 100, 480)},
        {"roi": region(0, 2**32 - 1, 640, 2)},
        {"roi": region(10, 10)},
        {"roi": region(0, 0, 640, 0)},
    ],
)
def test_bad_camera_info(changes: dict[str, Any]) -> None:
    assert fault_of(camera_from_info, info_message(**changes)).reason == "bad_camera"


def test_rectifying_transform_equals_the_projection_matrix() -> None:
    angle = 0.02
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    P = np.array([[700.0, 0, 300, -380], [0, 700, 200, 4], [0, 0, 1, 0.003]])
    msg = info_message(r=R.ravel(), p=P.ravel())
    points = np.random.default_rng(0).uniform([-3, -2, 5], [3, 2, 20], (30, 3))
    homogeneous = np.c_[points @ R.T, np.ones(30)] @ P.T
    uv, valid = camera_from_info(msg, True).project(transform(rectifying_transform(msg), points))
    assert valid.all()
    np.testing.assert_allclose(uv, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    np.testing.assert_array_equal(rectifying_transform(info_message(r=np.zeros(9))), np.eye(4))


@pytest.mark.parametrize(
    "changes",
    [
        {"r": np.ones(9)},
        {"r": np.full(9, np.nan)},
        {"r": np.ones(3)},
        {"p": np.zeros(12)},
        {"p": np.ones(12) * np.inf},
        {"p": np.ones(3)},
        {"p": -np.ones(12)},
    ],
)
def test_bad_rectification(changes: dict[str, Any]) -> None:
    assert fault_of(rectifying_transform, info_message(**changes)).reason == "bad_camera"


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/front/image_rect", True),
        ("/front/image_rect_color", True),
        ("/front/image_rect_color/compressed", True),
        ("/zed/rgb/color/rect/image", True),
        ("/camera/image_rectified", True),
        ("/CAM_FRONT/image_rect_compressed", True),
        ("/camera/image_raw", False),
        ("/camera/image_raw/compressed", False),
        ("/rectory/image", False),
        ("/camera/image_unrectified", False),
        ("/camera/image_non_rect", False),
        ("/direct/image", False),
    ],
)
def test_rectified_images_are_known_by_their_topic(topic: str, expected: bool) -> None:
    msg = info_message()
    assert images_are_rectified(msg, topic) is expected
    assert images_are_rectified(msg, topic, not expected) is not expected


def test_rectified_right_image_of_a_stereo_pair_follows_P_without_D(caplog: Any) -> None:
    """By P's definition, u = (P X)_0 / (P X)_2, of points in the frame of the header (REP-104)."""
    B_m, f = 0.12, 530.0
    P = np.array([[f, 0, 322.5, -f * B_m], [0, f, 241.5, 0], [0, 0, 1, 0]])
    msg = info_message(p=P.ravel(), d=np.array([-0.35, 0.12, 1e-3, 0, 0]))
    with caplog.at_level("WARNING"):
        camera, T_image_header = camera_of_images(msg, "/stereo_7/right/image_rect_color")
        camera_of_images(msg, "/stereo_7/right/image_rect_color")
    assert caplog.text.count("/stereo_7/right/image_rect_color: taken for rectified") == 1
    points = np.random.default_rng(3).uniform([-2, -1, 3], [2, 1, 15], (40, 3))
    homogeneous = np.c_[points, np.ones(40)] @ P.T
    uv, valid = camera.project(transform(T_image_header, points))
    assert valid.all() and camera.model == "pinhole"
    np.testing.assert_allclose(uv, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    raw = camera_of_images(msg, "/stereo_7/right/image_rect_color", rectified=False)
    assert raw.camera == camera_from_info(msg) and raw.camera.distortion
    np.testing.assert_array_equal(raw.T_image_header, np.eye(4))


def test_rectified_images_with_a_camera_info_of_their_own() -> None:
    """Some simulators fill K alone: it is that of the images as they are."""
    bare = info_message(p=np.zeros(12), d=np.zeros(5))
    camera, T_image_header = camera_of_images(bare, "/sim/image_rect")
    assert camera == camera_from_info(bare) and camera.model == "pinhole"
    np.testing.assert_array_equal(T_image_header, np.eye(4))
    distorted = info_message(p=np.zeros(12))
    fault = fault_of(camera_of_images, distorted, "/sim/image_rect")
    assert fault.reason == "bad_camera" and "set rectified to false" in str(fault)


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["height", "width", "binning_x", "binning_y"]), UINT32),
    st.lists(NUMBER, max_size=14),
    st.one_of(st.none(), st.lists(NUMBER, min_size=9, max_size=9)),
    st.one_of(st.none(), st.lists(NUMBER, min_size=12, max_size=12)),
    st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant", "fisheye", "x"]),
    st.builds(region, UINT32, UINT32, UINT32, UINT32),
)
def test_corrupt_camera_infos(
    sizes: dict[str, int], d: list[float], k: Any, p: Any, model: str, roi: Any
) -> None:
    msg = info_message(**sizes, d=np.array(d), distortion_model=model, roi=roi)
    if k is not None:
        msg.k = msg.r = np.array(k)
    if p is not None:
        msg.p = np.array(p)
    survives(camera_from_info, msg)
    survives(camera_from_info, msg, True)
    survives(rectifying_transform, msg)
