"""Image files of data sets: stored orientation, more bits than eight, temperatures."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.files import read_gray, read_image
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec, preprocess

RGB = np.zeros((24, 40, 3), np.uint8)
RGB[3:9, 5:20] = (250, 130, 20)


def with_orientation(jpeg: bytes, orientation: int, order: str = ">") -> bytes:
    """A JPEG with an EXIF orientation tag, big-endian as many cameras write it."""
    magic = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    tiff = magic + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tags_turn_neither_image_nor_thermal_partner(tmp_path, orientation):
    color = cv2.imencode(".jpg", RGB[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    gray = cv2.imencode(".jpg", RGB[..., 0], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    (tmp_path / "a_visible.jpg").write_bytes(with_orientation(color, orientation))
    (tmp_path / "a_lwir.jpg").write_bytes(with_orientation(gray, orientation, "<"))
    turned = cv2.imread(str(tmp_path / "a_visible.jpg"), cv2.IMREAD_COLOR_RGB)
    assert (turned.shape == RGB.shape) == (orientation < 5)  # the tag is one that OpenCV obeys
    frame = RgbThermalPairs(tmp_path)[0]
    assert frame.image.shape == RGB.shape and frame.companion.image.shape == RGB.shape[:2]
    assert np.abs(frame.image.astype(int) - RGB)[4:8, 7:18].max() < 30
    assert frame.companion.image[4:8, 7:18].min() > 200 and frame.companion.image[12:].max() < 20


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (16, 65535)])
def test_images_of_more_bits_need_a_white_level(tmp_path, bits, white):
    deep = (RGB.astype(np.float64) / 255 * white).round().astype(np.uint16)
    path = tmp_path / "a_visible.png"
    assert cv2.imwrite(str(path), deep[..., ::-1])
    assert cv2.imwrite(str(tmp_path / "a_lwir.png"), RGB[..., 0])
    with pytest.raises(Fault, match=r"a_visible\.png holds uint16.*white_level") as error:
        RgbThermalPairs(tmp_path)[0]
    assert error.value.reason == "no_white_level"
    assert f"values up to {deep.max()}," in str(error.value)
    frame = RgbThermalPairs(tmp_path, white_level=white)[0]
    assert frame.image.dtype == np.uint8
    assert np.abs(frame.image.astype(int) - RGB).max() <= 1
    too_low = read_image(path, white_level=white // 2)  # clipped, not wrapped
    assert too_low.max() == 255 and (too_low[3:9, 5:20, 0] == 255).all()


def test_white_level_of_eight_bits_changes_nothing_and_nonsense_is_refused(tmp_path, shared_data):
    assert cv2.imwrite(str(tmp_path / "a_visible.png"), RGB[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "a_visible.png", 4095), RGB)
    for level in (0, -1, 70_000):
        with pytest.raises(Fault, match=f"white_level is {level}"):
            RgbThermalPairs(tmp_path, white_level=level)
        with pytest.raises(Fault, match=f"white_level is {level}"):
            KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26", white_level=level)
    assert cv2.imwrite(str(tmp_path / "f.tiff"), RGB.astype(np.float32))
    with pytest.raises(Fault, match="holds float32 values up to 250"):
        read_image(tmp_path / "f.tiff", 4095)


def test_gray_and_transparent_files_are_colour_images(tmp_path):
    for name, stored in (
        ("g.png", RGB[..., 0]),
        ("p.png", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
    ):
        assert cv2.imwrite(str(tmp_path / name), stored)
    assert np.array_equal(read_image(tmp_path / "g.png"), np.dstack([RGB[..., 0]] * 3))
    assert np.array_equal(read_image(tmp_path / "p.png"), RGB)


@pytest.mark.parametrize("offset", [0.0, -273.15])
def test_temperatures_are_thermal_images(tmp_path, offset):
    kelvin = (290 + 15 * np.random.default_rng(0).random((32, 48))).astype(np.float32) + offset
    kelvin = kelvin.astype(np.float32)
    assert cv2.imwrite(str(tmp_path / "a_visible.png"), np.zeros((32, 48, 3), np.uint8))
    assert cv2.imwrite(str(tmp_path / "a_lwir.tiff"), kelvin)
    frame = RgbThermalPairs(tmp_path)[0]
    np.testing.assert_array_equal(frame.companion.image, kelvin)
    value = preprocess(frame, InputSpec(32, 48, "thermal", 1)).companion[0, ..., 0]
    assert value.min() == 0 and value.max() == 1 and 0.2 < value.std() < 0.4
    kelvin[3, 4] = np.nan
    assert cv2.imwrite(str(tmp_path / "a_lwir.tiff"), kelvin)
    with pytest.raises(Fault, match=r"a_lwir\.tiff holds values that are not finite"):
        RgbThermalPairs(tmp_path)[0]
    assert cv2.imwrite(str(tmp_path / "n.tiff"), np.full((4, 4), -5, np.int16))
    with pytest.raises(Fault, match="holds int16"):
        read_gray(tmp_path / "n.tiff")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_a_download_that_broke_off_is_no_image(tmp_path, suffix, kept):
    """OpenCV shows what is there of a JPEG, and grey below it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert read_image(path).shape == noise.shape
    path.write_bytes(data[: int(kept * len(data))])
    for read in (read_image, read_gray):
        with pytest.raises(Fault, match=str(path)) as caught:
            read(path)
        assert caught.value.reason == "bad_image"
