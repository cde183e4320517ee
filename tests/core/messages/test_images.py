"""Images in, raw and compressed, against independent readings."""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemumo_core.messages import images
from lemumo_core.messages.images import (
    _LAYOUTS,
    compressed_to_rgb,
    compressed_to_thermal,
    image_to_rgb,
    thermal_to_array,
)
from tests.helpers.message_builders import (
    COLUMNS,
    FUZZ,
    HEADER,
    SCENE,
    SMALL,
    UINT32,
    compressed_message,
    encode,
    fault_of,
    image_message,
    make,
    random_image,
    read_only,
    survives,
)
from tests.helpers.paths import SHARED

# --- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 0]),
        ("bgra8", [2, 1, 0, 0]),
    ],
)
def test_channel_orders(encoding: str, order: list[int], padding: int) -> None:
    rgb = random_image(7, 5, 3)
    msg = image_message(rgb[..., order], encoding, padding)
    np.testing.assert_array_equal(image_to_rgb(msg), rgb)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_gray_image_has_equal_channels(encoding: str) -> None:
    gray = random_image(6, 9)
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(image_to_rgb(image_message(gray, encoding, 3)), expected)


def test_rgb8_is_a_view() -> None:
    msg = image_message(random_image(4, 6, 3), "rgb8", 2)
    assert np.shares_memory(image_to_rgb(msg), msg.data)


@pytest.mark.parametrize(
    ("encoding", "pattern"),
    [
        ("rggb", [[0, 1], [1, 2]]),
        ("bggr", [[2, 1], [1, 0]]),
        ("gbrg", [[1, 2], [0, 1]]),
        ("grbg", [[1, 0], [2, 1]]),
    ],
)
def test_bayer_patterns(encoding: str, pattern: list[list[int]]) -> None:
    channel = np.tile(pattern, (32, 48))
    mosaic = np.take_along_axis(SCENE, channel[..., None], axis=2)[..., 0]
    rgb = image_to_rgb(image_message(mosaic, f"bayer_{encoding}8", 1))
    np.testing.assert_allclose(rgb[2:-2, 2:-2].astype(int), SCENE[2:-2, 2:-2], atol=3)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_packed_yuv(encoding: str) -> None:
    """Against the BT.601 studio-range definition, written out."""
    r, g, b = np.moveaxis(SCENE.astype(float), -1, 0)
    luma = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    chroma = np.where(COLUMNS % 2 == 0, u, np.roll(v, 1, axis=1))
    pair = [chroma, luma] if encoding in ("yuv422", "uyvy") else [luma, chroma]
    msg = image_message(np.rint(np.stack(pair, axis=-1)).astype(np.uint8), encoding, 4)
    np.testing.assert_allclose(image_to_rgb(msg).astype(int), SCENE, atol=6)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_thermal_16_bit(encoding: str, padding: int, big_endian: bool) -> None:
    counts = random_image(5, 7, dtype=np.uint16)
    stored = counts.astype(">u2" if big_endian else "<u2")
    result = thermal_to_array(image_message(stored, encoding, padding, big_endian))
    assert result.dtype == np.dtype(np.uint16) and result.dtype.isnative and result.flags.aligned
    np.testing.assert_array_equal(result, counts)


@pytest.mark.parametrize("big_endian", [False, True])
def test_thermal_temperatures(big_endian: bool) -> None:
    kelvin = np.random.default_rng(0).uniform(260, 330, (5, 7)).astype(np.float32)
    stored = kelvin.astype(">f4" if big_endian else "<f4")
    result = thermal_to_array(image_message(stored, "32FC1", 3, big_endian))
    assert result.dtype == np.dtype(np.float32) and result.dtype.isnative
    np.testing.assert_array_equal(result, kelvin)
    kelvin[2, 3] = np.nan
    assert fault_of(thermal_to_array, image_message(kelvin, "32FC1")).reason == "bad_image"


def test_thermal_8_bit_and_gray_color() -> None:
    gray = random_image(6, 8)
    np.testing.assert_array_equal(thermal_to_array(image_message(gray, "mono8")), gray)
    for encoding in ("rgb8", "bgr8", "8UC3"):
        msg = image_message(np.repeat(gray[..., None], 3, axis=2), encoding, 1)
        np.testing.assert_array_equal(thermal_to_array(msg), gray)
    assert fault_of(thermal_to_array, image_message(SCENE, "rgb8")).reason == "unsupported_encoding"
    assert "'bgra8'" in str(fault_of(thermal_to_array, image_message(SCENE, "bgra8")))


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "32FC1"])
def test_color_camera_without_white_level_is_refused(encoding: str) -> None:
    fault = fault_of(image_to_rgb, image_message(random_image(4, 4, 2), encoding))
    assert fault.reason == "unsupported_encoding" and "thermal" in str(fault)


def test_unknown_encodings_need_a_fallback() -> None:
    msg = image_message(random_image(4, 6), "nv12")
    fault = fault_of(image_to_rgb, msg)
    assert fault.reason == "unsupported_encoding" and "'nv12'" in str(fault)
    picture = random_image(4, 6, 3)
    assert image_to_rgb(msg, lambda given: picture if given is msg else None) is picture
    assert image_to_rgb(image_message(picture, "rgb8"), fault_of) is not picture


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"height": 0},
        {"width": -5},
        {"width": 60_000, "height": 60_000},
        {"width": 2**32 - 1, "height": 2**32 - 1, "step": 2**32 - 1},
        {"step": 0},
        {"step": 17},
        {"height": 9},
        {"step": 30},
    ],
)
@pytest.mark.parametrize("function", [image_to_rgb, thermal_to_array])
def test_image_sizes_that_contradict_the_data(function: Any, changes: dict[str, int]) -> None:
    msg = image_message(random_image(4, 6, 3), "bgr8")
    for name, value in changes.items():
        setattr(msg, name, value)
    assert fault_of(function, msg).reason == "bad_image"


def test_sizes_that_a_format_cannot_have() -> None:
    assert (
        fault_of(image_to_rgb, image_message(random_image(4, 5, 2), "uyvy")).reason == "bad_image"
    )
    tiny = image_message(random_image(2, 2), "bayer_rggb8")
    assert fault_of(image_to_rgb, tiny).reason == "bad_image"


# --- compressed images --------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["png", "", "rgb8; png compressed bgr8", "bgr8"])
def test_png_colors(text: str) -> None:
    rgb = random_image(20, 30, 3)
    msg = compressed_message(encode(rgb, ".png"), text)
    np.testing.assert_array_equal(compressed_to_rgb(msg), rgb)
    np.testing.assert_array_equal(image_to_rgb(msg), rgb)


@pytest.mark.parametrize("text", ["jpeg", "jpg", "", "bgr8; jpeg compressed bgr8"])
def test_jpeg_colors(text: str) -> None:
    rgb = compressed_to_rgb(compressed_message(encode(SCENE, ".jpg"), text))
    np.testing.assert_allclose(rgb.astype(int), SCENE, atol=8)


def mosaic_of(rgb: np.ndarray, pattern: list[list[int]]) -> np.ndarray:
    channel = np.tile(pattern, (rgb.shape[0] // 2, rgb.shape[1] // 2))
    return np.take_along_axis(rgb, channel[..., None], axis=2)[..., 0]


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("bayer_gbrg8; jpeg compressed ", ".jpg"),
        ("bayer_gbrg8; jpeg compressed", ".jpg"),
        ("bayer_gbrg8; png compressed ", ".png"),
        ("bayer_gbrg8", ".png"),
        ("BAYER_GBRG8; png compressed bayer_gbrg8", ".png"),
    ],
)
@pytest.mark.parametrize("reduce", [1, 4])
def test_compressed_mosaic_is_debayered(text: str, codec: str, reduce: int) -> None:
    mosaic = mosaic_of(SCENE, [[1, 2], [0, 1]])
    quality = [cv2.IMWRITE_JPEG_QUALITY, 98] if codec == ".jpg" else []
    data = cv2.imencode(codec, mosaic, quality)[1].tobytes()
    rgb = compressed_to_rgb(compressed_message(data, text), reduce)
    np.testing.assert_allclose(rgb[2:-2, 2:-2].astype(int), SCENE[2:-2, 2:-2], atol=16)
    if codec == ".png":
        raw = image_to_rgb(image_message(mosaic, "bayer_gbrg8"))
        np.testing.assert_array_equal(rgb, raw)


@pytest.mark.parametrize("text", ["bayer_gbrg8; png compressed bgr8", "bayer_gbrg8; png"])
def test_compressed_colors_of_a_bayer_camera_stay(text: str) -> None:
    rgb = compressed_to_rgb(compressed_message(encode(SCENE, ".png"), text))
    np.testing.assert_array_equal(rgb, SCENE)


def test_gray_and_unknown_mosaics_in_files() -> None:
    gray = encode(SCENE[..., 1], ".png")
    for text in ("mono8; png compressed ", "png", "bayer_rggb8; png compressed mono8"):
        rgb = compressed_to_rgb(compressed_message(gray, text))
        np.testing.assert_array_equal(rgb, np.repeat(SCENE[..., 1:2], 3, axis=2))
    for text in ("bayer_rgbe8; png compressed ", "bayer_rggb16; png compressed "):
        fault = fault_of(compressed_to_rgb, compressed_message(gray, text))
        assert fault.reason == "unsupported_encoding" and text.split(";")[0] in str(fault)


def test_opencv_that_cannot_read_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_READ_RGB", None)
    msg = compressed_message(encode(SCENE, ".png"), "png")
    np.testing.assert_array_equal(compressed_to_rgb(msg), SCENE)


def test_progressive_and_padded_jpeg() -> None:
    data = cv2.imencode(".jpg", SCENE[..., ::-1], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    rgb = compressed_to_rgb(compressed_message(data + bytes(100), "jpeg"))
    np.testing.assert_allclose(rgb.astype(int), SCENE, atol=8)


def test_orientation_tag_is_ignored() -> None:
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    untagged = encode(SCENE, ".jpg")
    tagged = untagged[:2] + segment + untagged[2:]
    assert cv2.imdecode(read_only(tagged), cv2.IMREAD_COLOR).shape == (96, 64, 3)
    np.testing.assert_array_equal(
        compressed_to_rgb(compressed_message(tagged, "jpeg")),
        compressed_to_rgb(compressed_message(untagged, "jpeg")),
    )


def test_compressed_thermal() -> None:
    counts = random_image(20, 30, dtype=np.uint16)
    msg = compressed_message(encode(counts, ".png"), "mono16; png compressed ")
    np.testing.assert_array_equal(thermal_to_array(msg), counts)
    assert fault_of(compressed_to_rgb, msg).reason == "unsupported_encoding"
    gray = SCENE[..., 0]
    for image in (gray, np.repeat(gray[..., None], 3, axis=2)):
        msg = compressed_message(encode(image, ".png"), "png")
        np.testing.assert_array_equal(compressed_to_thermal(msg), gray)
    false_colors = compressed_message(encode(SCENE, ".png"), "png")
    assert fault_of(thermal_to_array, false_colors).reason == "unsupported_encoding"


@pytest.mark.parametrize("codec", [".jpg", ".png"])
@pytest.mark.parametrize("sixteenth", range(16))
def test_truncated_files_are_refused(codec: str, sixteenth: int) -> None:
    data = encode(SCENE, codec)
    fault = fault_of(
        compressed_to_rgb, compressed_message(data[: len(data) * sixteenth // 16], codec[1:])
    )
    assert fault.reason in ("bad_image", "unsupported_encoding")
    assert fault_of(compressed_to_rgb, compressed_message(data[:-1], "")).reason == "bad_image"


def test_thumbnail_does_not_hide_a_truncation() -> None:
    data, thumbnail = encode(SCENE, ".jpg"), encode(SCENE[::8, ::8], ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert compressed_to_rgb(compressed_message(whole, "jpeg")).shape == SCENE.shape
    assert "truncated" in str(fault_of(compressed_to_rgb, compressed_message(whole[:-200], "jpeg")))


def forge(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header, and in PNG a right checksum."""
    if data.startswith(b"\x89PNG"):
        chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
        return data[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


@pytest.mark.parametrize("codec", [".jpg", ".png"])
@pytest.mark.parametrize("size", [(60_000, 60_000), (65_535, 65_535), (0, 64), (96, 0)])
@pytest.mark.parametrize("function", [compressed_to_rgb, compressed_to_thermal])
def test_bombs_and_empty_sizes_are_never_decoded(
    monkeypatch: pytest.MonkeyPatch, function: Any, size: tuple[int, int], codec: str
) -> None:
    def imdecode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    fault = fault_of(function, compressed_message(forge(encode(SCENE, codec), *size), codec[1:]))
    assert fault.reason == "bad_image" and f"{size[0]}x{size[1]}" in str(fault)


def test_jpeg_of_countless_scans_is_never_decoded() -> None:
    """libjpeg walks the whole image once for each of them."""
    data = cv2.imencode(".jpg", SCENE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + 200 * data[last:-2] + data[-2:]
    assert cv2.imdecode(np.frombuffer(bomb, np.uint8), cv2.IMREAD_COLOR).shape == SCENE.shape
    assert "scans" in str(fault_of(compressed_to_rgb, compressed_message(bomb, "jpeg")))
    assert compressed_to_rgb(compressed_message(data, "jpeg")).shape == SCENE.shape


@pytest.mark.parametrize(
    ("text", "codec", "reason"),
    [
        ("png", ".jpg", "bad_image"),
        ("rgb8; jpeg compressed bgr8", ".png", "bad_image"),
        ("16UC1; compressedDepth png", ".png", "bad_image"),
        ("tiff", ".jpg", "bad_image"),
        ("jpeg", ".bmp", "unsupported_encoding"),
    ],
)
def test_format_that_contradicts_the_data(text: str, codec: str, reason: str) -> None:
    fault = fault_of(compressed_to_rgb, compressed_message(encode(SCENE, codec), text))
    assert fault.reason == reason and text in str(fault)


def test_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(encode(SCENE, ".png"))
    data[len(data) // 2] ^= 4
    assert "checksum" in str(fault_of(compressed_to_rgb, compressed_message(bytes(data), "png")))


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real sensor data beside the checkout (../shared) is absent"
)
def test_real_thermal_files() -> None:
    files = [*(SHARED / "data/kaist_rgbt").glob("*_lwir.png")]
    files += [*(SHARED / "data/llvip_rgbt/Train_LLVIP_ir").glob("*.jpg")]
    assert len(files) > 5
    for path in files:
        image = compressed_to_thermal(compressed_message(path.read_bytes(), path.suffix[1:]))
        assert image.dtype == np.uint8 and image.ndim == 2 and image.std() > 5


# --- corruption: nothing but Fault --------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_reduced_jpeg_is_the_halved_one(factor: int, shared_data) -> None:
    """A real picture, 1280x1024: half a grey level from averaging the pixels, at most."""
    data = sorted((shared_data / "llvip_rgbt").glob("*_vi/*.jpg"))[0].read_bytes()
    whole = image_to_rgb(compressed_message(data, "jpeg"))
    found = image_to_rgb(compressed_message(data, "jpeg"), reduce=factor)
    height, width = whole.shape[:2]
    blocks = whole.reshape(height // factor, factor, width // factor, factor, 3)
    expected = blocks.mean(axis=(1, 3))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.5
    assert np.percentile(np.abs(found - expected), 99) < 2


def test_only_a_jpeg_is_reduced_and_its_size_is_rounded_up() -> None:
    image = random_image(53, 37, 3)
    png, jpeg = (compressed_message(encode(image, codec), "") for codec in (".png", ".jpg"))
    np.testing.assert_array_equal(image_to_rgb(png, reduce=8), image_to_rgb(png))
    assert image_to_rgb(jpeg, reduce=4).shape == (14, 10, 3)
    np.testing.assert_array_equal(image_to_rgb(image_message(image, "rgb8"), reduce=8), image)


@FUZZ
@given(
    st.sampled_from([*_LAYOUTS, "32FC1", "", "nv24", "x"]),
    st.tuples(UINT32, UINT32, UINT32),
    st.booleans(),
    st.integers(0, 300),
)
def test_corrupt_images(
    encoding: str, sizes: tuple[int, int, int], big_endian: bool, length: int
) -> None:
    msg = make(
        "sensor_msgs/msg/Image",
        header=HEADER,
        height=sizes[0],
        width=sizes[1],
        step=sizes[2],
        encoding=encoding,
        is_bigendian=int(big_endian),
        data=read_only(bytes(length)),
    )
    survives(image_to_rgb, msg)
    survives(thermal_to_array, msg)


@FUZZ
@given(
    st.sampled_from([".jpg", ".png"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6),
    st.integers(0, 40),
    st.sampled_from(["", "jpeg", "png", "bgr8; jpeg compressed bgr8", "16UC1; compressedDepth"]),
)
def test_corrupt_compressed_images(
    codec: str, edits: list[tuple[int, int]], cut: int, text: str
) -> None:
    data = bytearray(SMALL[codec])
    for position, value in edits:
        data[position % len(data)] = value
    msg = compressed_message(bytes(data[: len(data) - cut]), text)
    survives(image_to_rgb, msg)
    survives(thermal_to_array, msg)
