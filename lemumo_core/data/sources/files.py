"""Reading of the files that data sets are made of, with errors that name them."""

from __future__ import annotations

import logging
import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.files import uri_cure
from lemumo_core.messages.image_files import JPEG, PNG, inspect

log = logging.getLogger(__name__)

FIRST_STAMP_NS = 1_000_000_000
"""Stamp of frame 0 where a data set has no times; 0 would mean "no stamp" to ROS tools."""

MAX_NEGATIVE = 0.01
"""Share of returns whose intensity may be below -1, which some tools write for unknown."""
MAX_WHITE = 65535
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts")
RECORDING_GAP_NS = 3_600_000_000_000
"""Made-up time from one recording of a data set without times to the next, so that their frames are
never taken for those of one."""
COLORED, COLORED_PERCENTILE = 24, 90
"""Channels that differ by more in a tenth of the pixels are colours, not JPEG's noise in grey."""


def existing(path: Path, layout: str) -> Path:
    """Return the path, if it exists.

    Raises:
        FileNotFoundError: nothing is there; the message shows the expected layout.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {layout}{uri_cure(path)}")
    return path


def warn_of_unpaired(root: Path, unpaired: Sequence[str], total: int) -> None:
    """Warn of images and sweeps that are left out, because they lack each other.

    Args:
        root: of the data set.
        unpaired: what messages call them.
        total: how many pairs there would be.
    """
    if unpaired:
        log.warning(
            "%s: %d of %d pairs of image and sweep are left out, because one of the two is not "
            "there, the first %s: is the download complete?",
            *(root, len(unpaired), total, unpaired[0]),
        )


def files_below(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List files of some suffixes at any depth, relative to root, hidden ones left out.

    Links to folders are followed; suffixes are compared in lower case.
    """
    return sorted(
        Path(folder, name).relative_to(root)
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(suffixes) and not name.startswith(".")
    )


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


def read_calibrated_image(path: Path, width: int, height: int) -> np.ndarray:
    """Decode a colour image file that must have the size of its calibration, pixels.

    Returns:
        As ``read_image``.

    Raises:
        FileNotFoundError, Fault: as ``read_image``; ``bad_image`` for another size.
    """
    image = read_image(path)
    if image.shape[:2] != (height, width):
        raise Fault(
            "bad_image",
            f"{path} is {image.shape[1]}x{image.shape[0]}, its calibration is of "
            f"{width}x{height}: take the images as they were published",
        )
    return image


def read_image(path: Path, white_level: int | None = None) -> np.ndarray:
    """Decode a colour image file; a grey one has three equal channels.

    Pixels are those that are stored, as boxes and partner images have them: an orientation tag
    turns nothing.

    Args:
        path: the file.
        white_level: value of white in files of 16 bits, e.g. 4095 where they hold 12-bit data.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_image``; ``no_white_level`` for a file of more than 8 bits without
            ``white_level``, or of floating-point numbers.
    """
    image = _decode(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16 or white_level is None:
        raise Fault(
            "no_white_level",
            f"{path} holds {image.dtype} values up to {image.max():.6g}, and nothing says which of "
            "them is white: give the source's white_level where it has that option (4095 for "
            "12-bit data in 16 bits, 65535 where all are used), or convert the files to 8 bits",
        )
    return (np.minimum(image / white_level, 1.0) * 255.0).round().astype(np.uint8)


def read_gray(path: Path) -> np.ndarray:
    """Decode an image file of one channel, or the grey value of a colour file, as stored.

    Returns:
        (H, W), uint8, uint16 or float32.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_image``, also for numbers that are not finite and for false colours.
    """
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.ndim == 3:
        colors = image[..., :3].astype(np.float32)
        if np.percentile(np.ptp(colors, axis=2), COLORED_PERCENTILE) > COLORED:
            raise Fault(
                "bad_image",
                f"{path} is in false colours, of which no temperatures can be read: take the "
                "camera's grey images",
            )
        image = _decode(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise Fault("bad_image", f"{path} holds {image.dtype}, not 8 or 16 bits or float32")
    if not np.isfinite(image).all():
        raise Fault("bad_image", f"{path} holds values that are not finite")
    return image


def positive_level(white_level: int | None) -> int | None:
    """Return a white level.

    Raises:
        Fault: ``bad_option`` where it is not within 1 and 65535.
    """
    if white_level is not None and not 0 < white_level <= MAX_WHITE:
        raise Fault("bad_option", f"white_level is {white_level}, must be within 1 and {MAX_WHITE}")
    return white_level


def read_text(path: Path, what: str) -> str:
    """Read a text file: UTF-8, or UTF-16 with the mark that Windows tools put before either.

    Other bytes are replaced, so that a class name in another encoding is an unknown one.

    Args:
        path: the file.
        what: what it is, for the message where there is none.

    Raises:
        FileNotFoundError: there is no such file.
    """
    data = existing(path, what).read_bytes()
    encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _decode(path: Path, flags: int) -> np.ndarray:
    data = existing(path, "an image file").read_bytes()
    if data.startswith((JPEG, PNG)):  # OpenCV fills up what is cut off, without a word
        try:
            inspect(data, "")
        except Fault as fault:
            raise Fault(fault.reason, f"{path}: {fault}") from None
    values = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(values, flags | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    if image is None:
        raise Fault("bad_image", f"{path} is not an image that OpenCV can decode")
    return image


def read_points(path: Path, columns: int) -> np.ndarray:
    """Read a headerless cloud of float32 rows: (N, columns).

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_points`` where the size is not a whole number of rows, or the fourth column
            holds negative values, which no intensity does: rows are of another length then.
    """
    values = np.fromfile(existing(path, f"a float32 x {columns} point cloud"), np.float32)
    if values.nbytes != path.stat().st_size or values.size % columns:
        raise Fault(
            "bad_points", f"{path}: {path.stat().st_size} bytes are not rows of {columns} float32"
        )
    points = values.reshape(-1, columns)
    if columns > 3 and np.mean(points[:, 3] < -1) > MAX_NEGATIVE:
        raise Fault(
            "bad_points",
            f"{path}: the fourth value of {100 * np.mean(points[:, 3] < -1):.0f} % of the rows is "
            f"below -1 and so no intensity: are rows of {columns} float32 what it holds?",
        )
    return points
