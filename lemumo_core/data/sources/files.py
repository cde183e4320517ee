"""Reading of the files that data sets are made of, with errors that name them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lemumo_core.faults import Fault

FIRST_STAMP_NS = 1_000_000_000
"""Stamp of frame 0 where a data set has no times; 0 would mean "no stamp" to ROS tools."""


def existing(path: Path, layout: str) -> Path:
    """Return the path, if it exists.

    Raises:
        FileNotFoundError: nothing is there; the message shows the expected layout.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {layout}")
    return path


def made_up_stamp(index: int, rate_hz: float) -> int:
    """Return a stamp, ns, for frame ``index`` of a data set without times, at a rate."""
    return FIRST_STAMP_NS + round(index * 1e9 / rate_hz)


def positive_rate(rate_hz: float) -> float:
    """Return the rate, if it is valid.

    Raises:
        Fault: ``bad_option`` where it is not above 0.
    """
    if not rate_hz > 0:
        raise Fault("bad_option", f"rate_hz is {rate_hz}, must be above 0")
    return float(rate_hz)


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR_RGB) -> np.ndarray:
    """Decode an image file: by default uint8 (H, W, 3) RGB.

    Args:
        path: the file.
        flags: as ``cv2.imread``.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_image``.
    """
    image = cv2.imread(str(existing(path, "an image file")), flags)
    if image is None:
        raise Fault("bad_image", f"{path} is not an image that OpenCV can decode")
    return image


def read_points(path: Path, columns: int) -> np.ndarray:
    """Read a headerless cloud of float32 rows: (N, columns).

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_points`` where the size is not a whole number of rows.
    """
    values = np.fromfile(existing(path, f"a float32 x {columns} point cloud"), np.float32)
    if values.nbytes != path.stat().st_size or values.size % columns:
        raise Fault(
            "bad_points", f"{path}: {path.stat().st_size} bytes are not rows of {columns} float32"
        )
    return values.reshape(-1, columns)
