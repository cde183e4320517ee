"""Messages in: images, point clouds, cameras and transforms against independent readings.

Messages are rosbags' dataclasses, so none of this needs ROS; where rclpy is installed the same
bytes must give the same arrays through its messages.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform
from lemumo_ros import convert_images
from lemumo_ros.convert_images import _LAYOUTS
from lemumo_ros.convert_in import (
    MAX_POINTS,
    camera_from_info,
    compressed_to_rgb,
    compressed_to_thermal,
    image_to_rgb,
    points_to_array,
    rectifying_transform,
    stamp_to_ns,
    thermal_to_array,
    transform_to_matrix,
)

typesys = pytest.importorskip("rosbags.typesys", reason="pip install rosbags")
STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
POINT_FORMATS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


def make(message_type: str, /, **fields: Any) -> Any:
    return STORE.types[message_type](**fields)


HEADER = make(
    "std_msgs/msg/Header",
    stamp=make("builtin_interfaces/msg/Time", sec=1, nanosec=2),
    frame_id="sensor",
)


def read_only(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def image_message(
    pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False
) -> Any:
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return make(
        "sensor_msgs/msg/Image",
        header=HEADER,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=read_only(rows.tobytes()),
    )


def compressed_message(data: bytes, text: str) -> Any:
    return make("sensor_msgs/msg/CompressedImage", header=HEADER, format=text, data=read_only(data))


def field(name: str, offset: int, datatype: int = 7, count: int = 1) -> Any:
    return make(
        "sensor_msgs/msg/PointField", name=name, offset=offset, datatype=datatype, count=count
    )


def cloud_message(data: bytes, fields: list[Any], point_step: int, **changes: Any) -> Any:
    count = len(data) // max(point_step, 1)
    values = {
        "height": 1,
        "width": count,
        "is_bigendian": False,
        "point_step": point_step,
        "row_step": count * point_step,
        "is_dense": True,
    }
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=HEADER,
        fields=fields,
        data=read_only(data),
        **{**values, **changes},
    )


def xyz_message(points: np.ndarray, **changes: Any) -> Any:
    names = ("x", "y", "z", "intensity")[: points.shape[1]]
    fields = [field(name, 4 * i) for i, name in enumerate(names)]
    return cloud_message(points.astype("<f4").tobytes(), fields, 4 * points.shape[1], **changes)


def info_message(**changes: Any) -> Any:
    values = {
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": np.array([-0.1, 0.02, 0.001, -0.002, 0.003]),
        "k": np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1]),
        "r": np.eye(3).ravel(),
        "p": np.array([450.0, 0, 310, 0, 0, 460, 230, 0, 0, 0, 1, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": region(),
    }
    return make("sensor_msgs/msg/CameraInfo", header=HEADER, **{**values, **changes})


def region(x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Any:
    return make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x,
        y_offset=y,
        width=width,
        height=height,
        do_rectify=False,
    )


def random_image(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, shape, dtype, endpoint=True)


# A smooth scene: chroma subsampling, mosaics and JPEG keep it recognisable.
ROWS, COLUMNS = np.mgrid[0:64, 0:96]
SCENE = np.stack([40 + 2 * COLUMNS, 30 + 3 * ROWS, 200 - ROWS - COLUMNS], axis=-1).astype(np.uint8)


def fault_of(function: Any, *args: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        function(*args)
    return caught.value


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
def test_grey_image_has_equal_channels(encoding: str) -> None:
    grey = random_image(6, 9)
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(image_to_rgb(image_message(grey, encoding, 3)), expected)


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


def test_thermal_8_bit_and_grey_colour() -> None:
    grey = random_image(6, 8)
    np.testing.assert_array_equal(thermal_to_array(image_message(grey, "mono8")), grey)
    for encoding in ("rgb8", "bgr8", "8UC3"):
        msg = image_message(np.repeat(grey[..., None], 3, axis=2), encoding, 1)
        np.testing.assert_array_equal(thermal_to_array(msg), grey)
    assert fault_of(thermal_to_array, image_message(SCENE, "rgb8")).reason == "unsupported_encoding"
    assert "'bgra8'" in str(fault_of(thermal_to_array, image_message(SCENE, "bgra8")))


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "32FC1"])
def test_colour_camera_without_white_level_is_refused(encoding: str) -> None:
    fault = fault_of(image_to_rgb, image_message(random_image(4, 4, 2), encoding))
    assert fault.reason == "unsupported_encoding" and "thermal" in str(fault)


def test_unknown_encoding_names_the_apt_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    fault = fault_of(image_to_rgb, image_message(random_image(4, 4, 3), "nv12"))
    assert fault.reason == "unsupported_encoding"
    assert "'nv12'" in str(fault) and "ros-kilted-cv-bridge" in str(fault)


def test_other_encodings_go_through_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    class BridgeError(TypeError):
        pass

    class Bridge:
        def imgmsg_to_cv2(self, msg: Any, encoding: str) -> np.ndarray:
            if msg.encoding != "nv12":
                raise BridgeError("no")
            assert encoding == "rgb8"
            return np.full((msg.height, msg.width, 3), 9, np.uint8)

    fake = ModuleType("cv_bridge")
    fake.__dict__.update(CvBridge=Bridge, CvBridgeError=BridgeError)
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    assert (image_to_rgb(image_message(random_image(4, 6), "nv12")) == 9).all()
    fault = fault_of(image_to_rgb, image_message(random_image(4, 6), "nonsense"))
    assert fault.reason == "unsupported_encoding"
    short = image_message(random_image(4, 6), "nv12")
    short.data = short.data[:5]
    assert fault_of(image_to_rgb, short).reason == "bad_image"


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


def encode(image: np.ndarray, codec: str) -> bytes:
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(codec, np.ascontiguousarray(bgr))[1].tobytes()


@pytest.mark.parametrize("text", ["png", "", "rgb8; png compressed bgr8", "bgr8"])
def test_png_colours(text: str) -> None:
    rgb = random_image(20, 30, 3)
    msg = compressed_message(encode(rgb, ".png"), text)
    np.testing.assert_array_equal(compressed_to_rgb(msg), rgb)
    np.testing.assert_array_equal(image_to_rgb(msg), rgb)


@pytest.mark.parametrize("text", ["jpeg", "jpg", "", "bgr8; jpeg compressed bgr8"])
def test_jpeg_colours(text: str) -> None:
    rgb = compressed_to_rgb(compressed_message(encode(SCENE, ".jpg"), text))
    np.testing.assert_allclose(rgb.astype(int), SCENE, atol=8)


def test_opencv_that_cannot_read_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_images, "_READ_RGB", None)
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
    plain = encode(SCENE, ".jpg")
    tagged = plain[:2] + segment + plain[2:]
    assert cv2.imdecode(read_only(tagged), cv2.IMREAD_COLOR).shape == (96, 64, 3)
    np.testing.assert_array_equal(
        compressed_to_rgb(compressed_message(tagged, "jpeg")),
        compressed_to_rgb(compressed_message(plain, "jpeg")),
    )


def test_compressed_thermal() -> None:
    counts = random_image(20, 30, dtype=np.uint16)
    msg = compressed_message(encode(counts, ".png"), "mono16; png compressed ")
    np.testing.assert_array_equal(thermal_to_array(msg), counts)
    assert fault_of(compressed_to_rgb, msg).reason == "unsupported_encoding"
    grey = SCENE[..., 0]
    for image in (grey, np.repeat(grey[..., None], 3, axis=2)):
        msg = compressed_message(encode(image, ".png"), "png")
        np.testing.assert_array_equal(compressed_to_thermal(msg), grey)
    false_colours = compressed_message(encode(SCENE, ".png"), "png")
    assert fault_of(thermal_to_array, false_colours).reason == "unsupported_encoding"


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


# --- point clouds -------------------------------------------------------------------------------


def read_slowly(msg: Any) -> list[list[float]]:
    """One struct.unpack for every number."""
    order = ">" if msg.is_bigendian else "<"
    fields = {f.name.lower(): f for f in msg.fields}
    names = [name for name in ("x", "y", "z", "intensity") if name in fields]
    data = bytes(msg.data)
    return [
        [
            struct.unpack_from(
                order + POINT_FORMATS[fields[name].datatype],
                data,
                row * msg.row_step + column * msg.point_step + fields[name].offset,
            )[0]
            for name in names
        ]
        for row in range(msg.height)
        for column in range(msg.width)
    ]


@st.composite
def clouds(draw: st.DrawFn) -> Any:
    """Any well-formed layout: types, order, gaps, other fields, padding, organised or not."""
    names = draw(st.permutations(["x", "y", "z", *draw(st.sampled_from([[], ["intensity"]]))]))
    extra = draw(st.lists(st.sampled_from(["ring", "t", "rgb", "_"]), max_size=3))
    offset, fields = 0, []
    for name in draw(st.permutations([*names, *extra])):
        datatype = draw(st.sampled_from([7, 7, 7, *POINT_FORMATS]))
        count = 1 if name in names else draw(st.integers(0, 3))
        offset += draw(st.sampled_from([0, 0, 1, 4]))
        fields.append(field(draw(st.sampled_from([name, name.upper()])), offset, datatype, count))
        offset += struct.calcsize(POINT_FORMATS[datatype]) * count
    point_step = offset + draw(st.integers(0, 5))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    row_step = width * point_step + draw(st.integers(0, 9))
    seed, surplus = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 3))
    size = (height - 1) * row_step + width * point_step + surplus
    data = np.random.default_rng(seed).bytes(size)
    return cloud_message(
        data,
        fields,
        point_step,
        height=height,
        width=width,
        row_step=row_step,
        is_bigendian=draw(st.booleans()),
    )


@FUZZ
@given(clouds())
def test_any_layout_equals_the_struct_loop(msg: Any) -> None:
    with np.errstate(all="ignore"):
        expected = np.array(read_slowly(msg), np.float64).astype(np.float32)
    points = points_to_array(msg)
    assert points.dtype == np.float32 and points.flags.c_contiguous
    np.testing.assert_array_equal(points, expected)


def test_pcl_layout_and_float64() -> None:
    """The layout of pcl::PointXYZI, and one as SLAM packages write it."""
    points = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    dtype = np.dtype({"names": list("xyzi"), "formats": ["<f4"] * 4, "offsets": [0, 4, 8, 16],
                      "itemsize": 32})  # fmt: skip
    records = np.zeros(50, dtype)
    for i, name in enumerate("xyzi"):
        records[name] = points[:, i]
    fields = [field(n, o) for n, o in [("x", 0), ("y", 4), ("z", 8), ("intensity", 16)]]
    np.testing.assert_array_equal(
        points_to_array(cloud_message(records.tobytes(), fields, 32)), points
    )
    fields = [field(name, 8 * i, 8) for i, name in enumerate("xyz")]
    msg = cloud_message(points[:, :3].astype("<f8").tobytes(), fields, 24)
    np.testing.assert_array_equal(points_to_array(msg), points[:, :3])


def test_huge_float64_becomes_infinite_without_a_warning() -> None:
    fields = [field(name, 8 * i, 8) for i, name in enumerate("xyz")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = points_to_array(cloud_message(struct.pack("<3d", 1e300, np.nan, 1), fields, 24))
    assert np.isposinf(points[0, 0]) and np.isnan(points[0, 1])


def test_empty_clouds() -> None:
    assert points_to_array(xyz_message(np.empty((0, 3)))).shape == (0, 3)
    assert points_to_array(xyz_message(np.empty((0, 4)))).shape == (0, 4)
    assert points_to_array(cloud_message(b"", [], 0, height=0)).shape == (0, 3)


def test_result_does_not_follow_the_message() -> None:
    msg = xyz_message(np.ones((5, 4)))
    assert not np.shares_memory(points_to_array(msg), msg.data)


XYZ = [field("x", 0), field("y", 4), field("z", 8)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 11}, "too few"),
        ({"height": 2}, "too few"),
        ({"height": 2, "width": 5, "row_step": 59}, "row_step"),
        ({"height": 2, "width": 5, "row_step": 2**32 - 1}, "too few"),
        ({"width": 0}, "holds 120 bytes"),
        ({"width": -3}, "negative"),
        ({"height": -1, "width": -10}, "negative"),
        ({"point_step": 0}, "reaches past"),
        ({"point_step": 11}, "reaches past"),
        ({"point_step": 2**32 - 1}, "too few"),
        ({"fields": []}, "none"),
        ({"fields": XYZ[:2]}, "'z'"),
        ({"fields": [*XYZ, field("X", 0)]}, "has 2"),
        ({"fields": [*XYZ[:2], field("z", 9)]}, "reaches past"),
        ({"fields": [*XYZ[:2], field("z", -4)]}, "reaches past"),
        ({"fields": [*XYZ[:2], field("z", 2**32 - 2)]}, "reaches past"),
        ({"fields": [*XYZ[:2], field("z", 8, 8)]}, "reaches past"),
        ({"fields": [*XYZ[:2], field("z", 8, 9)]}, "datatype 9"),
        ({"fields": [*XYZ[:2], field("z", 8, 0)]}, "datatype 0"),
        ({"fields": [*XYZ[:2], field("z", 8, 7, 0)]}, "count 0"),
        ({"fields": [field("x", 0, 7, 3), *XYZ[1:]]}, "count 3"),
        ({"fields": [*XYZ, field("intensity", 12)]}, "reaches past"),
    ],
)
def test_malformed_clouds_are_named(changes: dict[str, Any], words: str) -> None:
    msg = xyz_message(np.ones((10, 3)))
    for name, value in changes.items():
        setattr(msg, name, value)
    fault = fault_of(points_to_array, msg)
    assert fault.reason == "bad_point_cloud" and words in str(fault)


@pytest.mark.parametrize("size", [(1, MAX_POINTS + 1), (2**32 - 1, 2**32 - 1)])
def test_too_large_clouds(size: tuple[int, int]) -> None:
    msg = xyz_message(np.ones((10, 3)), height=size[0], width=size[1])
    assert fault_of(points_to_array, msg).reason == "point_cloud_too_large"


def test_big_cloud_is_fast() -> None:
    msg = xyz_message(np.ones((120_000, 4)))
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        points_to_array(msg)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real sensor data beside the checkout (../shared) is absent"
)
def test_real_kitti_scan() -> None:
    path = SHARED / "data/kitti_object/training/velodyne/000000.bin"
    expected = np.fromfile(path, np.float32).reshape(-1, 4)
    points = points_to_array(xyz_message(expected))
    np.testing.assert_array_equal(points, expected)
    assert len(points) > 100_000 and -3 < np.median(points[:, 2]) < 0


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


def transform_message(t: list[float], q: list[float]) -> Any:
    return make(
        "geometry_msgs/msg/Transform",
        translation=make("geometry_msgs/msg/Vector3", x=t[0], y=t[1], z=t[2]),
        rotation=make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
    )


def test_known_transforms() -> None:
    # The quaternion from a camera's optical axes to REP-103 body axes.
    T = transform_to_matrix(transform_message([1, 2, 3], [-0.5, 0.5, -0.5, 0.5]))
    np.testing.assert_allclose(T[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(T[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(T[:, 3], [1, 2, 3, 1])
    T = transform_to_matrix(transform_message([0, 0, 0], [0, 0, 0, 1.0005]))
    np.testing.assert_array_equal(T, np.eye(4))


@pytest.mark.parametrize(
    ("t", "q"),
    [
        ([0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0], [0, 0, 0, 1.002]),
        ([0, 0, 0], [0, 0, np.nan, 1]),
        ([0, 0, 0], [0, 0, np.inf, 1]),
        ([np.nan, 0, 0], [0, 0, 0, 1]),
    ],
)
def test_bad_transforms(t: list[float], q: list[float]) -> None:
    assert fault_of(transform_to_matrix, transform_message(t, q)).reason == "bad_transform"


def test_stamp() -> None:
    assert stamp_to_ns(SimpleNamespace(sec=1_700_000_000, nanosec=5)) == 1_700_000_000_000_000_005


# --- corruption: nothing but Fault --------------------------------------------------------------

UINT32 = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1]))
NUMBER = st.one_of(st.floats(width=64), st.sampled_from([0.0, 1.0, -1.0, 1e308]))


def survives(function: Any, *args: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            function(*args)
        except Fault as fault:
            assert fault.reason and str(fault)


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


SMALL = {codec: encode(SCENE[:16, :24], codec) for codec in (".jpg", ".png")}


@FUZZ
@given(
    clouds(),
    st.dictionaries(st.sampled_from(["height", "width", "point_step", "row_step"]), UINT32),
    st.lists(
        st.builds(
            field,
            st.sampled_from(["x", "y", "z", "intensity", ""]),
            UINT32,
            st.integers(0, 255),
            UINT32,
        ),
        max_size=2,
    ),
    st.integers(0, 200),
)
def test_corrupt_clouds(msg: Any, changes: dict[str, int], fields: list[Any], length: int) -> None:
    for name, value in changes.items():
        setattr(msg, name, value)
    msg.fields = [*msg.fields[len(fields) :], *fields]
    msg.data = msg.data[:length]
    survives(points_to_array, msg)


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


@FUZZ
@given(st.lists(NUMBER, min_size=3, max_size=3), st.lists(NUMBER, min_size=4, max_size=4))
def test_corrupt_transforms(t: list[float], q: list[float]) -> None:
    survives(transform_to_matrix, transform_message(t, q))


def test_no_ros_is_imported() -> None:
    code = (
        "import sys, lemumo_ros.convert_in, lemumo_ros.transforms; "
        "sys.exit(any(m.startswith(('rclpy', 'rosbags', 'cv_bridge')) or m.endswith('_msgs') "
        "for m in sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# --- where ROS is installed ---------------------------------------------------------------------


def through_rclpy(msg: Any) -> Any:
    """The rclpy message of the same CDR bytes."""
    serialization = pytest.importorskip(
        "rclpy.serialization", reason="needs rclpy: pip install '.[ros]'"
    )
    package, _, name = msg.__msgtype__.split("/")
    message_class = getattr(importlib.import_module(f"{package}.msg"), name)
    raw = bytes(STORE.serialize_cdr(msg, msg.__msgtype__))
    return serialization.deserialize_message(raw, message_class)


@pytest.mark.parametrize(
    ("function", "msg"),
    [
        (image_to_rgb, image_message(random_image(5, 6, 3), "rgb8", 3)),
        (image_to_rgb, image_message(random_image(5, 6, 4), "bgra8", 3)),
        (image_to_rgb, image_message(random_image(6, 6, 2), "yuv422_yuy2")),
        (image_to_rgb, compressed_message(SMALL[".jpg"], "jpeg")),
        (thermal_to_array, image_message(random_image(5, 6, dtype=np.uint16), "mono16", 1)),
        (thermal_to_array, image_message(random_image(5, 6, dtype=np.uint16), "16UC1", 0, True)),
        (points_to_array, xyz_message(np.random.default_rng(0).normal(size=(30, 4)))),
        (points_to_array, xyz_message(np.ones((30, 3)), is_bigendian=True, height=5, width=6)),
        (lambda msg: camera_from_info(msg).K, info_message()),
        (rectifying_transform, info_message()),
        (transform_to_matrix, transform_message([1, 2, 3], [0.5, 0.5, -0.5, 0.5])),
        (lambda msg: np.array(stamp_to_ns(msg.stamp)), HEADER),
    ],
)
def test_rclpy_messages_give_equal_results(function: Any, msg: Any) -> None:
    if hasattr(msg, "row_step"):
        msg.row_step = msg.width * msg.point_step
    np.testing.assert_array_equal(function(through_rclpy(msg)), function(msg))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8"])
def test_images_equal_cv_bridge(encoding: str) -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="needs an apt ROS (ros-*-cv-bridge)")
    channels = {"mono8": (), "bayer_rggb8": ()}.get(encoding, (len(encoding) - 1,))
    msg = through_rclpy(image_message(random_image(20, 30, *channels), encoding, 4))
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(msg, "rgb8")
    np.testing.assert_array_equal(image_to_rgb(msg), expected)


def test_clouds_equal_sensor_msgs_py() -> None:
    point_cloud2 = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="needs an apt ROS (ros-*-sensor-msgs-py)"
    )
    msg = through_rclpy(xyz_message(np.random.default_rng(0).normal(size=(500, 4))))
    names = ["x", "y", "z", "intensity"]
    expected = point_cloud2.read_points_numpy(msg, field_names=names)
    np.testing.assert_array_equal(points_to_array(msg), expected)
