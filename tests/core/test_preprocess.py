"""Frame to network input: where pixels land, what the channels hold, what is refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.image_scaling import reduced
from lemumo_core.preprocess import (
    InputSpec,
    labels_in_view,
    network_view,
    preprocess,
    reduction,
)

SPEC = InputSpec(64, 176, "lidar", 2)
WHOLE = replace(SPEC, whole_image=True)


def camera_of(width: int, height: int) -> Camera:
    return Camera(width, height, 0.8 * width, 0.8 * width, width / 2 + 3, height / 2 - 2)


@pytest.mark.parametrize("spec", [SPEC, WHOLE], ids=["bottom", "whole"])
@pytest.mark.parametrize("size", [(1242, 375), (1600, 900), (704, 256), (500, 333), (96, 50)])
def test_image_content_is_where_the_view_camera_says(size, spec) -> None:
    """Blobs drawn at projected points are found where the view projects those points."""
    camera = camera_of(*size)
    view = network_view(camera, spec)
    for x, y in [(-0.3, 0.05), (0.0, 0.0), (0.35, 0.08)]:
        point = np.array([[x, y, 1.0]])
        uv = camera.project(point)[0][0]
        v, u = np.mgrid[: size[1], : size[0]]
        radius = size[0] / 100
        blob = np.exp(-((u - uv[0]) ** 2 + (v - uv[1]) ** 2) / (2 * radius**2))
        image = np.repeat((255 * blob).astype(np.uint8)[..., None], 3, axis=2)
        out = preprocess(Frame(1, "c", camera, image), spec).image[0, ..., 0].astype(float)
        v, u = np.mgrid[:64, :176]
        found = [(out * u).sum() / out.sum(), (out * v).sum() / out.sum()]
        np.testing.assert_allclose(found, view.project(point)[0][0], atol=0.15)


def test_rows_are_padded_or_cropped_at_the_top() -> None:
    wide, tall = camera_of(1242, 375), camera_of(640, 480)
    padded = preprocess(Frame(1, "c", wide, np.full((375, 1242, 3), 9, np.uint8)), SPEC).image[0]
    assert (padded[:11] == 0).all() and (padded[11:] == 9).all()  # 53 of 64 rows
    image = np.zeros((480, 640, 3), np.uint8)
    image[:200] = 255
    cropped = preprocess(Frame(1, "c", tall, image), SPEC).image[0]
    assert (cropped == 0).all()


@pytest.mark.parametrize("size", [(1920, 1080), (1600, 902), (1054, 1850), (801, 611), (704, 500)])
def test_rows_that_are_cut_off_change_nothing(size) -> None:
    """Those that are shown are halved as they would be with the whole image."""
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    height = round(size[1] * SPEC.width / size[0])
    whole = image
    while min(whole.shape[1] / SPEC.width, whole.shape[0] / height) >= 2:
        half = reduced(whole.shape[:2], 2)
        whole = cv2.resize(whole, half[::-1], interpolation=cv2.INTER_AREA)
    whole = cv2.resize(whole, (SPEC.width, height), interpolation=cv2.INTER_LINEAR)
    found = preprocess(Frame(1, "c", camera_of(*size), image), SPEC).image[0]
    assert np.array_equal(found, whole[-SPEC.height :])


@pytest.mark.parametrize("size", [(1242, 375), (1600, 900), (640, 480), (300, 900), (33, 12)])
def test_a_view_of_the_whole_image_leaves_nothing_out(size) -> None:
    """The image's corners lie at the bottom of the view, in its middle, and touch two edges."""
    width, height = size
    image = np.full((height, width, 3), 9, np.uint8)
    frame = Frame(1, "c", camera_of(width, height), image)
    shown = preprocess(frame, WHOLE).image[0, ..., 0] == 9
    rows, columns = shown.any(1).nonzero()[0], shown.any(0).nonzero()[0]
    assert shown[rows[0] :, columns[0] : columns[-1] + 1].all() and rows[-1] == 63
    assert len(columns) == 176 or rows[0] == 0
    assert abs(columns[0] - (175 - columns[-1])) <= 1
    assert len(columns) / len(rows) == pytest.approx(width / height, rel=1 / min(shown.shape))
    labels = labels_in_view(image[..., 0], frame.camera, WHOLE, unknown=0)
    np.testing.assert_array_equal(labels == 9, shown)


def test_lidar_channels() -> None:
    camera = Camera(176, 64, 100, 100, 88, 32)
    points = np.array([[0, 0, 40], [10, 0, 20], [-40, 0, 160], [0, 0.03, 0.15]], np.float32)
    frame = Frame(1, "c", camera, None, LidarScan(points, np.eye(4), 1))
    result = preprocess(frame, SPEC)
    value, valid = result.companion[0, ..., 0], result.companion[0, ..., 1]
    assert valid.sum() == 3  # the last one is too near
    assert value[32, 88] == 0.5 and value[32, 138] == 0.25 and value[32, 63] == 1.0
    assert (value[valid == 0] == 0).all()
    assert result.present.tolist() == [[0.0, 1.0]]
    assert (result.image == 0).all()
    one = preprocess(frame, InputSpec(64, 176, "lidar", 1))
    assert one.companion.shape == (1, 64, 176, 1)
    np.testing.assert_array_equal(one.companion[..., 0], result.companion[..., 0])


def test_arrays_fit_the_contract() -> None:
    camera = camera_of(640, 480)
    result = preprocess(Frame(1, "c", camera, np.zeros((480, 640, 3), np.uint8)), SPEC)
    kinds = {name: (a.shape, a.dtype.name) for name, a in result._asdict().items()}
    assert kinds == {
        "image": ((1, 64, 176, 3), "uint8"),
        "companion": ((1, 64, 176, 2), "float32"),
        "intrinsics": ((1, 3, 3), "float32"),
        "present": ((1, 2), "float32"),
    }
    assert result.present.tolist() == [[1.0, 0.0]]
    np.testing.assert_allclose(result.intrinsics[0], network_view(camera, SPEC).K, rtol=1e-6)


THERMAL = InputSpec(64, 176, "thermal", 2)


def thermal_frame(image, R=None, camera=None) -> Frame:
    view = Camera(176, 64, 150, 150, 88, 32)
    T = np.eye(4)
    T[:3, :3] = np.eye(3) if R is None else R
    return Frame(1, "c", view, None, ThermalImage(image, camera or view, T, 1))


def test_thermal_of_the_same_camera_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 176), np.uint8)
    companion = preprocess(thermal_frame(image), THERMAL).companion[0]
    np.testing.assert_allclose(companion[..., 0], image / 255, atol=1e-6)
    assert (companion[..., 1] == 1).all()


def test_thermal_of_a_turned_camera_is_a_homography() -> None:
    image = cv2.GaussianBlur(
        np.random.default_rng(0).random((64, 176)).astype(np.float32), (0, 0), 3
    )
    image = (255 * image / image.max()).astype(np.uint8)
    R, _ = cv2.Rodrigues(np.array([0.02, 0.05, 0.03]))
    frame = thermal_frame(image, R)
    companion = preprocess(frame, THERMAL).companion[0]
    H = frame.camera.K @ R @ np.linalg.inv(frame.camera.K)
    expected = cv2.warpPerspective(image.astype(np.float32) / 255, H, (176, 64))
    valid = companion[..., 1] == 1
    assert 0.5 < valid.mean() < 1
    np.testing.assert_allclose(companion[..., 0][valid], expected[valid], atol=0.01)


@pytest.mark.parametrize("focal_px", [150.3, 77.7, 401.9])
def test_thermal_at_its_own_size_is_valid_to_the_border(focal_px) -> None:
    """Through rays and back, border pixels come out up to rounding; that must not lose a row."""
    camera = Camera(176, 64, focal_px, focal_px / 1.1, 87.6, 31.3)
    image = np.full((64, 176), 102, np.uint8)
    frame = Frame(1, "c", camera, None, ThermalImage(image, camera, np.eye(4), 1))
    companion = preprocess(frame, THERMAL).companion[0]
    assert (companion[..., 1] == 1).all()
    np.testing.assert_allclose(companion[..., 0], 0.4, atol=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.01, -273.15), (1 / 65535, 0.0)])
def test_temperatures_of_any_unit_give_what_their_counts_give(gain, offset) -> None:
    counts = np.random.default_rng(5).integers(26_000, 33_000, (64, 176)).astype(np.uint16)
    degrees = (counts * gain + offset).astype(np.float32)
    by_counts, by_degrees = (
        preprocess(thermal_frame(image), THERMAL).companion[0, ..., 0]
        for image in (counts, degrees)
    )
    np.testing.assert_allclose(by_degrees, by_counts, atol=2e-3)
    assert by_degrees.std() > 0.1
    flat = preprocess(thermal_frame(np.full((64, 176), 21.5, np.float32)), THERMAL)
    assert (flat.companion[0, ..., 0] == 0).all()


def test_16_bit_thermal_uses_its_own_range() -> None:
    image = np.linspace(29_000, 31_000, 64 * 176).reshape(64, 176).astype(np.uint16)
    value = preprocess(thermal_frame(image), THERMAL).companion[0, ..., 0]
    assert value.min() == 0 and value.max() == 1
    assert value[32, 88] == pytest.approx(0.5, abs=0.02)


def test_faults_are_named() -> None:
    camera = camera_of(640, 480)
    image = np.zeros((480, 640, 3), np.uint8)
    scan = LidarScan(np.zeros((1, 3), np.float32), np.eye(4), 1)
    for reason, frame, spec in (
        ("no_input", Frame(1, "c", camera), SPEC),
        ("bad_image", Frame(1, "c", camera, image[:-1]), SPEC),
        ("bad_image", Frame(1, "c", camera, image.astype(np.float32)), SPEC),
        ("wrong_companion", Frame(1, "c", camera, image, scan), THERMAL),
        ("bad_image", thermal_frame(np.zeros((3, 3), np.uint8)), THERMAL),
    ):
        with pytest.raises(Fault) as error:
            preprocess(frame, spec)
        assert error.value.reason == reason


@pytest.mark.parametrize("values", [(100, 176, "lidar", 2), (64, 0, "lidar", 2), (64, 64, "x", 2)])
def test_bad_specs_are_refused(values) -> None:
    with pytest.raises(ValueError):
        InputSpec(*values)


@pytest.mark.parametrize(
    ("size", "factor"),
    [((1242, 375), 4), ((704, 256), 4), ((352, 128), 2), ((351, 128), 1), ((9000, 4000), 8)],
)
def test_a_reduced_image_gives_the_same_network_input(size, factor) -> None:
    """Reduced by averaging, as the whole one would be in here."""
    camera = camera_of(*size)
    assert reduction(camera, SPEC) == factor
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    small = image
    while small.shape[:2] != reduced(image.shape[:2], factor):
        half = reduced(small.shape[:2], 2)
        small = cv2.resize(small, half[::-1], interpolation=cv2.INTER_AREA)
    inputs = [preprocess(Frame(1, "c", camera, i), SPEC) for i in (image, small)]
    for whole, halved in zip(*inputs, strict=True):
        np.testing.assert_array_equal(whole, halved)
    with pytest.raises(Fault, match="another resolution"):
        preprocess(Frame(1, "c", camera, small[:-1]), SPEC)
    with pytest.raises(Fault, match="give bytes"):
        preprocess(Frame(1, "c", camera, small.astype(np.float32)), SPEC)
