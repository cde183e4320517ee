"""ROS messages to NumPy arrays and core types.

Functions look only at message fields, so rclpy messages (``data`` is an array.array) and rosbags'
dataclasses (a read-only NumPy array) give equal results, and no ROS is needed. Whatever a message
claims is checked before memory is allocated for it; a message that cannot be used is a ``Fault``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, rotation_from_quaternion
from lemumo_ros.convert_images import (
    MAX_PIXELS,
    compressed_to_rgb,
    compressed_to_thermal,
    image_to_rgb,
    thermal_to_array,
)

__all__ = [
    "MAX_PIXELS",
    "MAX_POINTS",
    "camera_from_info",
    "compressed_to_rgb",
    "compressed_to_thermal",
    "image_to_rgb",
    "points_to_array",
    "rectifying_transform",
    "stamp_to_ns",
    "thermal_to_array",
    "transform_to_matrix",
]

MAX_POINTS = 5_000_000
"""Larger clouds are refused."""

NORM_TOLERANCE = 1e-3
"""How far the norm of a quaternion may be off."""

_POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""sensor_msgs/PointField datatype to NumPy's."""


def points_to_array(msg: Any) -> np.ndarray:
    """A point cloud to rows of x, y, z and, where the cloud has it, intensity.

    Any field layout, byte order, row padding and organised clouds. Numbers are cast to float32 as
    they stand: integers are metres too, as PointCloud2 has no scale. Names may be in any case.
    Fields that are not read may be anything.

    Args:
        msg: sensor_msgs/PointCloud2.

    Returns:
        float32 (N, 3) or (N, 4), in the sensor frame, row by row of the cloud, its non-finite
        points included. A cloud of no points has N = 0.

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
    points = np.empty((height, width, len(columns)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # float64 past float32 becomes infinite
        for start, dtype, offset, count in _runs(columns):
            source: dict[str, Any] = {"buffer": msg.data, "offset": offset}
            if dtype == np.float32:
                # Nothing to cast, so all of a point's numbers move as one item: 4 times faster.
                item = np.dtype((np.void, 4 * count))
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


def _runs(columns: list[tuple[np.dtype, int]]) -> list[tuple[int, np.dtype, int, int]]:
    """Neighbouring columns of one type as (first column, type, offset, number of columns)."""
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
    """Type and offset of x, y, z[, intensity]."""
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
        dtype = np.dtype((">" if msg.is_bigendian else "<") + _POINT_TYPES[field.datatype])
        if not 0 <= field.offset <= msg.point_step - dtype.itemsize:
            raise Fault(
                "bad_point_cloud",
                f"field '{name}' at offset {field.offset} reaches past point_step {msg.point_step}",
            )
        columns.append((dtype, int(field.offset)))
    return columns


def camera_from_info(msg: Any, rectified: bool = False) -> Camera:
    """The model of the images that come with a CameraInfo.

    Calibration is of the full sensor; the region of interest is cut out of it, then binned. A
    binned pixel lies at the mean of its pixels, so the principal point moves as in
    ``Camera.scaled`` (image_geometry divides it, which is up to half a binned pixel off).

    Args:
        msg: sensor_msgs/CameraInfo.
        rectified: the images are rectified ones (``image_rect``): take P's left 3x3 and no
            distortion. They live in the rectified frame: see ``rectifying_transform``.

    Raises:
        Fault: ``bad_camera`` for a camera that is not calibrated, an unknown distortion model, a
            wrong number of coefficients, or a region or binning that does not fit the sensor.
    """
    width, height = int(msg.width), int(msg.height)
    if width * height > MAX_PIXELS:
        raise Fault("bad_camera", f"camera size {width}x{height} is above {MAX_PIXELS} pixels")
    if rectified:
        K = _projection(msg)[:, :3]
        camera = Camera.from_calibration(width, height, K, "pinhole", ())
    else:
        camera = Camera.from_calibration(width, height, msg.k, msg.distortion_model, msg.d)
    roi = msg.roi
    x, y, w, h = (int(v) for v in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    if not (x or y or w or h):
        w, h = width, height
    binning_x, binning_y = int(msg.binning_x) or 1, int(msg.binning_y) or 1
    inside = 0 <= x <= width - w and 0 <= y <= height - h
    if not inside or not 0 < binning_x <= w or not 0 < binning_y <= h:
        raise Fault(
            "bad_camera",
            f"region of interest {w}x{h} at ({x}, {y}), binned {binning_x}x{binning_y}, "
            f"does not fit the {width}x{height} sensor",
        )
    w, h = w // binning_x, h // binning_y
    return camera.cropped(x, y, w * binning_x, h * binning_y).scaled(w, h)


def rectifying_transform(msg: Any) -> np.ndarray:
    """Transform from the camera's optical frame to the frame of its rectified images.

    CameraInfo's R turns the camera; the fourth column of P shifts the second camera of a stereo
    pair, whose messages carry the first one's frame. For one camera it is the identity.

    Args:
        msg: sensor_msgs/CameraInfo.

    Returns:
        float64 (4, 4) T_rectified_camera, such that projecting with ``camera_from_info(msg,
        rectified=True)`` after it equals K_rectified^-1 P [R X; 1]. An R of zeros was never set
        and counts as the identity.

    Raises:
        Fault: ``bad_camera`` for a P or R that is no projection or no rotation.
    """
    P = _projection(msg)
    R = _matrix(msg.r, 3, "R")
    if not R.any():
        R = np.eye(3)
    # The bound comes first: products of the numbers in a corrupt message overflow.
    if not np.abs(R).max() < 1.1 or not np.allclose(R @ R.T, np.eye(3), atol=NORM_TOLERANCE):
        raise Fault("bad_camera", f"R of the CameraInfo is not a rotation:\n{R}")
    K = Camera.from_calibration(msg.width, msg.height, P[:, :3], "pinhole", ()).K
    t = np.linalg.solve(K, P[:, 3])
    if not np.array_equal(K, P[:, :3]) or not np.isfinite(t).all():
        raise Fault("bad_camera", f"P of the CameraInfo is not [K | t]:\n{P}")
    return make_T(R, t)


def _projection(msg: Any) -> np.ndarray:
    P = _matrix(msg.p, 4, "P")
    if not P.any():
        raise Fault("bad_camera", "P of the CameraInfo is zero: the camera is not calibrated")
    return P


def _matrix(numbers: Any, columns: int, name: str) -> np.ndarray:
    if len(numbers) != 3 * columns:
        raise Fault("bad_camera", f"{name} must hold {3 * columns} numbers, got {len(numbers)}")
    return np.asarray(numbers, np.float64).reshape(3, columns)


def transform_to_matrix(msg: Any) -> np.ndarray:
    """A geometry_msgs/Transform to float64 (4, 4); the quaternion is normalised.

    Raises:
        Fault: ``bad_transform`` for a number that is not finite or a quaternion whose norm is off
            by more than ``NORM_TOLERANCE``.
    """
    t = np.array([msg.translation.x, msg.translation.y, msg.translation.z], np.float64)
    q = np.array([msg.rotation.w, msg.rotation.x, msg.rotation.y, msg.rotation.z], np.float64)
    norm = math.hypot(*q)
    if not np.isfinite(t).all() or not abs(norm - 1) <= NORM_TOLERANCE:
        raise Fault(
            "bad_transform",
            f"translation {t.tolist()}, quaternion (w, x, y, z) {q.tolist()} of norm {norm:.6g}: "
            "needs finite numbers and a norm of 1",
        )
    w, x, y, z = (q / norm).tolist()
    return make_T(rotation_from_quaternion(w, x, y, z), t)


def stamp_to_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
