"""All the way from messages to the network's input: nothing but Fault, nothing that is not finite.

Each message alone is fuzzed in its own file; here they are good enough to be taken together.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.messages.camera_info import camera_from_info
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.transforms import transform_to_matrix
from lemumo_core.preprocess import InputSpec, preprocess
from tests.helpers.message_builders import (
    FUZZ,
    NUMBER,
    fault_of,
    image_message,
    info_message,
    random_image,
    survives,
    transform_message,
    xyz_message,
)

LIDAR, THERMAL = (InputSpec(32, 48, companion, 2) for companion in ("lidar", "thermal"))
SIDE = st.one_of(st.integers(1, 70), st.sampled_from([1, 2, 3, 500]))
FOCAL = st.one_of(st.floats(1e-3, 1e4), st.sampled_from([5e-324, 1e-30, 1e30, 1e308]))
COORDINATE = st.one_of(st.floats(width=32), st.sampled_from([1.0, 1e-38, 3e38, float("nan")]))


@st.composite
def infos(draw: st.DrawFn, width: int, height: int) -> Any:
    """A CameraInfo of this size with any numbers and a model that they fit."""
    model, count = draw(
        st.sampled_from([("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)])
    )
    d = draw(st.lists(st.one_of(st.floats(-1, 1), NUMBER), min_size=count, max_size=count))
    k = [draw(FOCAL), 0, draw(NUMBER), 0, draw(FOCAL), draw(NUMBER), 0, 0, 1]
    sizes = {"width": width, "height": height}
    return info_message(distortion_model=model, d=np.array(d), k=np.array(k), **sizes)


def check(frame: Frame, spec: InputSpec) -> None:
    for name, array in preprocess(frame, spec)._asdict().items():
        assert np.isfinite(array).all(), name


@FUZZ
@given(st.data(), SIDE, SIDE, st.lists(st.tuples(*[COORDINATE] * 3), max_size=20))
def test_any_camera_and_cloud(
    data: st.DataObject, width: int, height: int, points: list[Any]
) -> None:
    image = image_message(random_image(height, width, 3), "rgb8")
    info = data.draw(infos(width, height))
    cloud = xyz_message(np.array(points, np.float32).reshape(-1, 3))
    T = transform_message([0, 0, data.draw(NUMBER)], [1, 0, 0, 0])

    def run() -> None:
        lidar = LidarScan(points_to_array(cloud), transform_to_matrix(T), 0)
        check(Frame(0, "c", camera_from_info(info), image_to_rgb(image), lidar), LIDAR)

    survives(run)


@FUZZ
@given(st.data(), SIDE, SIDE, st.sampled_from(["mono8", "mono16"]))
def test_any_two_cameras(data: st.DataObject, width: int, height: int, encoding: str) -> None:
    kind = np.uint8 if encoding == "mono8" else np.uint16
    picture = image_message(random_image(height, width, dtype=kind), encoding)
    color = image_message(random_image(height, width, 3), "rgb8")
    both = [data.draw(infos(width, height)) for _ in range(2)]

    def run() -> None:
        camera, thermal = (camera_from_info(info) for info in both)
        companion = ThermalImage(thermal_to_array(picture), thermal, np.eye(4), 0)
        check(Frame(0, "c", camera, image_to_rgb(color), companion), THERMAL)

    survives(run)


@pytest.mark.parametrize("size", [(1, 60_000), (2, 9_000), (3, 3_000)])
def test_an_image_like_a_thread_is_refused_before_it_is_scaled(size: tuple[int, int]) -> None:
    width, height = size
    k = np.array([100.0, 0, 0, 0, 100, 0, 0, 0, 1])
    info = info_message(width=width, height=height, k=k, d=np.zeros(5))
    image = np.zeros((height, width, 3), np.uint8)
    frame = Frame(0, "c", camera_from_info(info), image)
    tracemalloc.start()
    fault = fault_of(preprocess, frame, InputSpec(256, 704, "lidar", 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fault.reason == "bad_camera" and f"{width}x{height}" in str(fault)
    assert peak < 1 << 20
