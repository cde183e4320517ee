"""Bags of RGB-D cameras, whose depth is that of frames with dense ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.frame import Frame
from tests.helpers.bag_tools import write_messages

A, B = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 80.0
"""Of compressed_depth_image_transport for 32FC1: depth_quantization 100, depth_max 80 m."""


def depth_message(build, depth_m: np.ndarray, encoding: str, header):
    """A depth image: ``16UC1``, ``32FC1``, or either and `` compressed``."""
    encoding, _, compressed = encoding.partition(" ")
    if not compressed:
        return build.depth_image(depth_m, encoding, header)
    known = np.isfinite(depth_m)
    safe_m = np.where(known, depth_m, 1.0)
    values = A / safe_m + B if encoding == "32FC1" else np.rint(safe_m * 1000)
    values = np.where(known & (values < 65536), values, 0).astype(np.uint16)
    start = np.array([0], "<i4").tobytes() + np.array([A, B], "<f4").tobytes()
    data = np.frombuffer(start + cv2.imencode(".png", values)[1].tobytes(), np.uint8)
    described = f"{encoding}; compressedDepth png"
    return build.new(
        "sensor_msgs/CompressedImage", header=header, format=described, data=build.data(data)
    )


def write_rgbd_bag(
    frames: Iterable[Frame], out: Path, topics: dict[str, str], encoding: str = "16UC1"
) -> Path:
    """Write colour images and their depth in the same view, each with a CameraInfo of its own.

    Args:
        frames: with ``labels.depth_m``.
        out: bag folder.
        topics: of ``image``, ``camera_info``, ``depth`` and ``depth_info``.
        encoding: as for ``depth_message``.
    """
    build = RosbagsBuilder()
    messages = []
    for frame in frames:
        header = build.header(frame.stamp_ns, "camera_color_optical_frame")
        info = build.camera_info(frame.camera, header)
        by_role = {
            "camera_info": info,
            "depth_info": info,
            "depth": depth_message(build, frame.labels.depth_m, encoding, header),
            "image": build.image(frame.image, "rgb8", header),
        }
        messages += [(frame.stamp_ns, topics[role], one) for role, one in by_role.items()]
    return write_messages(out, messages)
