"""NumPy arrays from sensor_msgs/PointCloud2."""

from __future__ import annotations

from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.messages.stamps import stamp_to_ns

MAX_POINTS = 5_000_000
"""Larger clouds are refused."""

RING_FIELDS = ("ring", "channel")
"""Fields that drivers (Velodyne, Ouster, Hesai, RoboSense; Nebula) write the beam of a point to."""
TIME_FIELDS = ("t", "time", "timestamp", "offset_time", "time_offset", "time_stamp")
"""Fields that drivers (Ouster, Velodyne, Hesai, RoboSense, Livox) write the time of a point to."""
LONGEST_SWEEP_NS = 1_000_000_000
LEAST_ABSOLUTE_NS, LEAST_ABSOLUTE_S = 1e15, 1e6
"""Larger numbers count from an epoch, and not from the stamp of the cloud."""

_POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""sensor_msgs/PointField datatype to NumPy's."""


def points_to_array(msg: Any) -> np.ndarray:
    """Convert a point cloud to rows of x, y, z and, where it has them, intensity, and ring.

    Any field layout, byte order, row padding and organised clouds. Numbers are cast to float32 as
    they stand: integers are metres too, as PointCloud2 has no scale. Names may be in any case.
    Fields that are not read may be anything.

    Args:
        msg: sensor_msgs/PointCloud2.

    Returns:
        float32 (N, 3), (N, 4), or, where a field of ``RING_FIELDS`` can be read beside intensity,
        (N, 5), in the sensor frame, row by row of the cloud, its non-finite points included; a view
        of a message that holds these numbers and nothing else: not to be written to. A cloud of no
        points has N = 0.

    Raises:
        Fault: ``point_cloud_too_large`` above ``MAX_POINTS``; ``bad_point_cloud`` for sizes that
            contradict the data, or x, y, z, intensity that are missing, there twice, of an unknown
            datatype, of a count that is not 1, or not inside a point.
    """
    height, width, step = int(msg.height), int(msg.width), int(msg.point_step)
    if height < 0 or width < 0:
        raise Fault("bad_point_cloud", f"negative cloud size {width}x{height}")
    if height * width > MAX_POINTS:
        raise Fault(
            "point_cloud_too_large",
            f"the cloud claims {width}x{height} points, more than {MAX_POINTS}",
        )
    if height * width == 0:
        if len(msg.data):
            raise Fault(
                "bad_point_cloud",
                f"a cloud of {width}x{height} points holds {len(msg.data)} bytes of data",
            )
        return np.empty(
            (0, 4 if any(f.name.lower() == "intensity" for f in msg.fields) else 3), "f4"
        )
    columns = _columns(msg)
    row_step = int(msg.row_step) if height > 1 else width * step
    if row_step < width * step:
        raise Fault(
            "bad_point_cloud",
            f"row_step {row_step} is too short for {width} points of {step} bytes",
        )
    needed = (height - 1) * row_step + width * step
    if len(msg.data) < needed:
        raise Fault(
            "bad_point_cloud",
            f"{len(msg.data)} bytes of data are too few for {width}x{height} points ({needed})",
        )
    if row_step == width * step and _are_the_rows(columns, step):
        rows = np.frombuffer(msg.data, np.float32, height * width * len(columns))
        if rows.flags.writeable:
            return rows.reshape(-1, len(columns))
    points = np.empty((height, width, len(columns)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # float64 past float32 becomes infinite
        for start, dtype, offset, count in _runs(columns):
            source: dict[str, Any] = {"buffer": msg.data, "offset": offset}
            if dtype == np.float32:
                # Nothing to cast, so all of a point's numbers move as one item, and that is fastest
                # of 16 bytes: what they hold of other fields is overwritten by the next runs.
                size = 4 * (len(columns) - start)
                size = size if offset + size <= step else 4 * count
                item = np.dtype((np.void, size) if size > 4 else np.float32)
                target = np.ndarray((height, width), item, points, 4 * start, points.strides[:2])
                target[...] = np.ndarray((height, width), item, strides=(row_step, step), **source)
            else:
                points[..., start : start + count] = np.ndarray(
                    (height, width, count),
                    dtype,
                    strides=(row_step, step, dtype.itemsize),
                    **source,
                )
    return points.reshape(-1, len(columns))


def point_offsets_ns(msg: Any) -> np.ndarray | None:
    """Return when each point was measured, after the stamp of the cloud.

    Whole numbers are nanoseconds. Floats are seconds, or nanoseconds where they are as large as
    those since the epoch.

    Args:
        msg: sensor_msgs/PointCloud2 that ``points_to_array`` takes.

    Returns:
        int64 (N,), ns, in the order of its points; None where no field holds times.

    Raises:
        Fault: ``bad_point_cloud`` for times more than ``LONGEST_SWEEP_NS`` from the stamp.
    """
    field = next((f for name in TIME_FIELDS for f in msg.fields if f.name.lower() == name), None)
    if field is None or field.datatype not in _POINT_TYPES or msg.height * msg.width == 0:
        return None
    dtype = _type(field, msg)
    row_step = msg.row_step if msg.height > 1 else msg.width * msg.point_step
    values = np.ndarray(
        (msg.height, msg.width),
        dtype,
        buffer=msg.data,
        offset=field.offset,
        strides=(row_step, msg.point_step),
    ).reshape(-1)
    stamp_ns = stamp_to_ns(msg.header.stamp)
    largest = float(np.abs(values.astype(np.float64)).max())
    if dtype.kind in "iu":
        offsets_ns = values.astype(np.int64)
        offsets_ns -= stamp_ns if largest > LEAST_ABSOLUTE_NS else 0
    elif largest > LEAST_ABSOLUTE_NS:
        offsets_ns = np.rint(values - np.float64(stamp_ns)).astype(np.int64)
    else:
        second = stamp_ns / 1e9 if largest > LEAST_ABSOLUTE_S else 0.0
        offsets_ns = np.rint((values.astype(np.float64) - second) * 1e9).astype(np.int64)
    farthest_ns = int(np.abs(offsets_ns).max())
    if farthest_ns > LONGEST_SWEEP_NS:
        raise Fault(
            "bad_point_cloud",
            f"times in field '{field.name}' are up to {farthest_ns / 1e9:.1f} s from the cloud's "
            "stamp: no sweep takes that long",
        )
    return offsets_ns


def _are_the_rows(columns: list[tuple[np.dtype, int]], step: int) -> bool:
    """Whether points of ``step`` bytes are the columns, as float32, one after the other."""
    packed = [(np.dtype(np.float32), 4 * i) for i in range(len(columns))]
    return columns == packed and step == 4 * len(columns)


def _runs(columns: list[tuple[np.dtype, int]]) -> list[tuple[int, np.dtype, int, int]]:
    """Group neighbouring columns of one type: (first column, type, offset, number of columns)."""
    runs: list[tuple[int, np.dtype, int, int]] = []
    for i, (dtype, offset) in enumerate(columns):
        if runs:
            start, run_dtype, run_offset, count = runs[-1]
            if dtype == run_dtype and offset == run_offset + count * dtype.itemsize:
                runs[-1] = (start, dtype, run_offset, count + 1)
                continue
        runs.append((i, dtype, offset, 1))
    return runs


def _columns(msg: Any) -> list[tuple[np.dtype, int]]:
    """Return type and offset of x, y, z[, intensity[, ring]]."""
    columns = []
    for name in ("x", "y", "z", "intensity"):
        fields = [field for field in msg.fields if field.name.lower() == name]
        if not fields and name == "intensity":
            continue
        if len(fields) != 1:
            names = ", ".join(field.name for field in msg.fields)
            raise Fault(
                "bad_point_cloud",
                f"needs one field '{name}', has {len(fields)}; all fields: {names or 'none'}",
            )
        field = fields[0]
        if field.datatype not in _POINT_TYPES:
            raise Fault("bad_point_cloud", f"field '{name}' has unknown datatype {field.datatype}")
        if field.count != 1:
            raise Fault("bad_point_cloud", f"field '{name}' has count {field.count}, not 1")
        if not _is_inside(field, msg):
            raise Fault(
                "bad_point_cloud",
                f"field '{name}' at offset {field.offset} reaches past point_step {msg.point_step}",
            )
        columns.append((_type(field, msg), int(field.offset)))
    rings = [field for field in msg.fields if field.name.lower() in RING_FIELDS]
    is_read = len(columns) == 4 and len(rings) == 1 and rings[0].datatype in _POINT_TYPES
    if is_read and rings[0].count == 1 and _is_inside(rings[0], msg):
        columns.append((_type(rings[0], msg), int(rings[0].offset)))
    return columns


def _type(field: Any, msg: Any) -> np.dtype:
    return np.dtype((">" if msg.is_bigendian else "<") + _POINT_TYPES[field.datatype])


def _is_inside(field: Any, msg: Any) -> bool:
    """Return whether a field of a known type lies inside of a point."""
    return bool(0 <= field.offset <= msg.point_step - _type(field, msg).itemsize)
