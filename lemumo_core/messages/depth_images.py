"""Depth images of RGB-D cameras, and the points that they show."""

from __future__ import annotations

import functools
import struct
from typing import Any

import cv2
import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.image_files import decode, inspect
from lemumo_core.messages.images import check_size, pixels_of

MM_PER_M = 1000.0
ENCODINGS = ("16UC1", "mono16", "32FC1")
HEADER = struct.Struct("<iff")
"""compressed_depth_image_transport writes this before its PNG: the format, and A and B of
depth = A / (value - B) for depth that was 32FC1."""


def depth_to_array(msg: Any) -> np.ndarray:
    """Convert a depth image to metres along the optical axis: float32 (H, W), NaN = unknown.

    Args:
        msg: sensor_msgs/Image as in REP-118, 16UC1 (or mono16) in millimetres or 32FC1 in metres;
            or a CompressedImage of compressed_depth_image_transport (PNG). What is not finite and
            positive is unknown.

    Raises:
        Fault: ``unsupported_encoding`` for another one, ``bad_image``.
    """
    if hasattr(msg, "format"):
        depth_m = _decompressed(msg)
    else:
        _check(msg.encoding, msg.encoding)
        check_size(msg.width, msg.height)
        depth_m = pixels_of(msg).astype(np.float32)
        if msg.encoding != "32FC1":
            depth_m /= MM_PER_M
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    return depth_m


def depth_points(depth_m: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the points of the pixels whose depth is known.

    Args:
        depth_m: (H, W) as ``depth_to_array`` returns it.
        camera: of the depth image.

    Returns:
        float32 (N, 3), metres in the camera's optical frame, row by row.

    Raises:
        Fault: ``camera_info_mismatch`` where the camera is of another size.
    """
    if depth_m.shape != (camera.height, camera.width):
        raise Fault(
            "camera_info_mismatch",
            f"the depth image is {depth_m.shape[1]}x{depth_m.shape[0]}, its camera_info says "
            f"{camera.width}x{camera.height}: publish the calibration of this resolution",
        )
    known = np.isfinite(depth_m)
    points = _rays(camera)[known] * depth_m[known, None]
    return np.asarray(points[np.isfinite(points).all(axis=1)])  # where the lens shows something


@functools.lru_cache(maxsize=8)
def _rays(camera: Camera) -> np.ndarray:
    """Return the point at depth 1 behind each pixel: float32 (height, width, 3)."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    return rays.reshape(camera.height, camera.width, 3).astype(np.float32)


def _check(encoding: str, described: str) -> None:
    if encoding not in ENCODINGS:
        raise Fault(
            "unsupported_encoding",
            f"depth image '{described}' is none of {', '.join(ENCODINGS)} or compressedDepth of "
            "these as PNG",
        )


def _decompressed(msg: Any) -> np.ndarray:
    """Return the depth of a CompressedImage, float32 metres; 0 or NaN where it is unknown."""
    encoding, _, codec = (part.strip() for part in msg.format.partition(";"))
    _check(encoding, msg.format)
    if "compressedDepth" not in codec or "rvl" in codec.lower():
        raise Fault(
            "unsupported_encoding",
            f"depth image '{msg.format}' is no PNG of compressedDepth: set the publisher's "
            "parameter compressedDepth.format to png, or take the raw topic",
        )
    data = bytes(msg.data)
    if len(data) < HEADER.size:
        raise Fault("bad_image", f"{len(data)} bytes of compressedDepth are less than its header")
    _, a, b = HEADER.unpack_from(data)
    size, _ = inspect(data[HEADER.size :], "png")
    check_size(*size)
    values = decode(data[HEADER.size :], size, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise Fault("bad_image", f"compressedDepth of {values.dtype} {values.shape}, not 16 bits")
    if encoding != "32FC1":
        return values.astype(np.float32) / np.float32(MM_PER_M)
    with np.errstate(all="ignore"):
        return np.where(values == 0, np.nan, a / (values - np.float64(b))).astype(np.float32)
