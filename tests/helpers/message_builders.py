"""Messages to convert, as rosbags' dataclasses, so that none of this needs ROS."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lemumo_core.faults import Fault

typesys = pytest.importorskip("rosbags.typesys", reason="pip install rosbags")
STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
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


def encode(image: np.ndarray, codec: str) -> bytes:
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(codec, np.ascontiguousarray(bgr))[1].tobytes()


def transform_message(t: list[float], q: list[float]) -> Any:
    return make(
        "geometry_msgs/msg/Transform",
        translation=make("geometry_msgs/msg/Vector3", x=t[0], y=t[1], z=t[2]),
        rotation=make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
    )


UINT32 = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1]))
NUMBER = st.one_of(st.floats(width=64), st.sampled_from([0.0, 1.0, -1.0, 1e308]))


def survives(function: Any, *args: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            function(*args)
        except Fault as fault:
            assert fault.reason and str(fault)


SMALL = {codec: encode(SCENE[:16, :24], codec) for codec in (".jpg", ".png")}


def through_rclpy(msg: Any) -> Any:
    """The rclpy message of the same CDR bytes."""
    serialization = pytest.importorskip(
        "rclpy.serialization", reason="needs rclpy: pip install '.[ros]'"
    )
    package, _, name = msg.__msgtype__.split("/")
    message_class = getattr(importlib.import_module(f"{package}.msg"), name)
    raw = bytes(STORE.serialize_cdr(msg, msg.__msgtype__))
    return serialization.deserialize_message(raw, message_class)
