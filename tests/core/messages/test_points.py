"""Point clouds in, against loops over struct.unpack."""

from __future__ import annotations

import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemumo_core.messages.points import MAX_POINTS, points_to_array
from tests.helpers.message_builders import (
    FUZZ,
    POINT_FORMATS,
    UINT32,
    cloud_message,
    fault_of,
    field,
    survives,
    xyz_message,
)
from tests.helpers.paths import SHARED

# --- point clouds -------------------------------------------------------------------------------


def read_slowly(msg: Any) -> list[list[float]]:
    """One struct.unpack for every number."""
    order = ">" if msg.is_bigendian else "<"
    fields = {f.name.lower(): f for f in msg.fields}
    names = [name for name in ("x", "y", "z", "intensity") if name in fields]
    rings = [f for f in msg.fields if f.name.lower() == "ring"]
    if "intensity" in names and len(rings) == 1 and rings[0].count == 1:
        names.append("ring")
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


def test_the_ring_beside_intensity_is_read() -> None:
    """The layout of velodyne_pointcloud: ring is uint16, and time follows."""
    points = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    points[:, 4] = np.arange(50) % 16
    dtype = np.dtype({"names": list("xyzir"), "formats": ["<f4"] * 4 + ["<u2"],
                      "offsets": [0, 4, 8, 12, 16], "itemsize": 22})  # fmt: skip
    records = np.zeros(50, dtype)
    for i, name in enumerate("xyzir"):
        records[name] = points[:, i]
    xyzi = [field(n, 4 * i) for i, n in enumerate(("x", "y", "z", "intensity"))]
    time = field("time", 18)

    def read(*fields: Any) -> np.ndarray:
        return points_to_array(cloud_message(records.tobytes(), [*fields, time], 22))

    for name in ("ring", "channel"):
        np.testing.assert_array_equal(read(*xyzi, field(name, 16, 4)), points)
    np.testing.assert_array_equal(read(*xyzi[:3], field("ring", 16, 4)), points[:, :3])
    unreadable = [field("ring", 21, 4)], [field("ring", 16, 99)], [field("ring", 16, 4, 2)]
    for fields in (*unreadable, 2 * [field("ring", 16, 4)]):
        np.testing.assert_array_equal(read(*xyzi, *fields), points[:, :4])


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


def test_only_a_message_of_nothing_else_that_may_be_written_to_is_viewed() -> None:
    """Who trains on what a bag holds wraps it in tensors, which must be writable."""
    msg = xyz_message(np.arange(20.0).reshape(5, 4))
    rows = np.frombuffer(bytearray(bytes(msg.data)), np.uint8)
    for data, is_viewed in ((rows, True), (bytes(msg.data), False)):
        msg.data = data
        found = points_to_array(msg)
        assert np.array_equal(found, np.arange(20.0).reshape(5, 4)) and found.flags.writeable
        assert np.shares_memory(found, np.frombuffer(data, np.uint8)) == is_viewed
    wider = xyz_message(np.arange(20.0).reshape(5, 4))
    wider.fields = wider.fields[:3]
    wider.data = rows
    assert not np.shares_memory(points_to_array(wider), rows)


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


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of Python a call runs."""
    lines = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


def test_no_python_runs_for_each_point() -> None:
    few, many = (xyz_message(np.ones((count, 4))) for count in (10, 120_000))
    points_to_array(few)  # whatever is made once
    assert lines_run(lambda: points_to_array(many)) == lines_run(lambda: points_to_array(few)) > 0


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real sensor data beside the checkout (../shared) is absent"
)
def test_real_kitti_scan() -> None:
    path = SHARED / "data/kitti_object/training/velodyne/000000.bin"
    expected = np.fromfile(path, np.float32).reshape(-1, 4)
    points = points_to_array(xyz_message(expected))
    np.testing.assert_array_equal(points, expected)
    assert len(points) > 100_000 and -3 < np.median(points[:, 2]) < 0


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
