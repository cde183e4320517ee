"""NumPy images from sensor_msgs Image and CompressedImage.

Encodings are those of sensor_msgs/image_encodings.hpp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.messages.image_files import MAX_PIXELS, decode, inspect
from lemumo_core.messages.video import VideoImage

GREY_TOLERANCE = 4
"""Largest difference between channels of a grey image stored as colour (KAIST's differ by 2)."""

_LAYOUTS = {
    "mono8": ("u1", 1),
    "8UC1": ("u1", 1),
    "mono16": ("u2", 1),
    "16UC1": ("u2", 1),
    "32FC1": ("f4", 1),
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "8UC3": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "bayer_rggb8": ("u1", 1),
    "bayer_bggr8": ("u1", 1),
    "bayer_gbrg8": ("u1", 1),
    "bayer_grbg8": ("u1", 1),
    "yuv422": ("u1", 2),
    "uyvy": ("u1", 2),
    "yuv422_yuy2": ("u1", 2),
    "yuyv": ("u1", 2),
}
"""Encoding to the NumPy type and number of its values per pixel."""

_TO_RGB = {
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "bgr8": cv2.COLOR_BGR2RGB,
    # An OpenCV type does not imply the order. Messages carry it when OpenCV's own arrays, which
    # are BGR, were published without naming an encoding (the default of cv_bridge).
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    # OpenCV names a Bayer pattern after the second and third pixel of the second row.
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}

_THERMAL = ("mono8", "8UC1", "mono16", "16UC1", "32FC1")

ENCODINGS = ("rgb8", *_TO_RGB)
"""Encodings that ``image_to_rgb`` reads by itself."""

_READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV >= 4.11


def image_to_rgb(
    msg: Any, fallback: Callable[[Any], np.ndarray] | None = None, reduce: int = 1
) -> np.ndarray:
    """Convert a colour camera's message to RGB.

    8 bit rgb, bgr, rgba, bgra, mono, Bayer, packed YUV 4:2:2, ``8UC1`` (grey) and ``8UC3`` (BGR).
    Grey images of more than 8 bits and floating-point images are refused: how many of the bits
    are used, and so what is white, is written nowhere.

    Args:
        msg: sensor_msgs/Image, CompressedImage (see ``compressed_to_rgb``) or a ``VideoImage``.
        fallback: converts the images whose encoding is not in ``ENCODINGS``, e.g. cv_bridge.
        reduce: of a JPEG only, as ``compressed_to_rgb``.

    Returns:
        uint8 (H, W, 3) RGB. For ``rgb8`` a view of the message, with its row padding: not to be
        written to.

    Raises:
        Fault: ``bad_image`` for sizes that contradict the data, ``unsupported_encoding``.
    """
    if isinstance(msg, VideoImage):
        return msg.to_rgb()
    if hasattr(msg, "format"):
        return compressed_to_rgb(msg, reduce)
    check_size(msg.width, msg.height)
    if msg.encoding in ("mono16", "16UC1", "32FC1"):
        raise Fault(
            "unsupported_encoding",
            f"a colour camera cannot be {msg.encoding}, which has no white level: publish 8 bits, "
            "or connect a thermal camera to the thermal input",
        )
    if msg.encoding not in _LAYOUTS:
        if fallback is None:
            raise Fault(
                "unsupported_encoding",
                f"encoding '{msg.encoding}' is none of {', '.join(ENCODINGS)}",
            )
        if msg.step <= 0:
            raise Fault("bad_image", f"step {msg.step} must be positive")
        _check_length(msg)
        return fallback(msg)
    pixels = pixels_of(msg)
    if msg.encoding == "rgb8":
        return pixels
    if msg.encoding.startswith("bayer"):
        return _debayered(pixels, msg.encoding)
    if pixels.shape[-1] == 2 and msg.width % 2:
        raise Fault("bad_image", f"{msg.encoding} needs an even width, got {msg.width}")
    return cv2.cvtColor(pixels, _TO_RGB[msg.encoding])


def thermal_to_array(msg: Any) -> np.ndarray:
    """Convert a thermal camera's message to its raw counts or temperatures.

    Args:
        msg: sensor_msgs/Image with ``mono8``, ``8UC1``, ``mono16``, ``16UC1`` or ``32FC1`` of
            either byte order, or a colour encoding that holds a grey image; or CompressedImage.

    Returns:
        uint8, uint16 or float32 (H, W) in native byte order; a view of the message where nothing
        had to change: not to be written to.

    Raises:
        Fault: ``bad_image``, ``unsupported_encoding``; false colours are the latter.
    """
    if hasattr(msg, "format"):
        return compressed_to_thermal(msg)
    check_size(msg.width, msg.height)
    if msg.encoding not in (*_THERMAL, "rgb8", "bgr8", "8UC3"):
        raise Fault(
            "unsupported_encoding",
            f"thermal images are {', '.join(_THERMAL)}, or grey rgb8 and bgr8, "
            f"got '{msg.encoding}'",
        )
    pixels = pixels_of(msg)
    if pixels.ndim == 3:
        return _gray(pixels)
    if msg.encoding == "32FC1" and not np.isfinite(pixels).all():
        raise Fault("bad_image", "the thermal image holds temperatures that are not finite")
    return np.require(pixels, pixels.dtype.newbyteorder("="), ["ALIGNED"])


def compressed_to_rgb(msg: Any, reduce: int = 1) -> np.ndarray:
    """Decode a colour camera's JPEG or PNG to RGB.

    Colours are those that the file itself defines, but for a file of one channel whose ``format``
    names a Bayer pattern: that is the mosaic itself, as compressed_image_transport writes it, and
    is debayered. Orientation tags are ignored: calibration knows nothing of them.

    Args:
        msg: sensor_msgs/CompressedImage.
        reduce: 1, 2, 4 or 8: a JPEG is decoded this much smaller, in up to a quarter of the time.
            A mosaic is always whole.

    Returns:
        uint8 (H, W, 3) RGB; of a reduced JPEG (ceil(H / reduce), ceil(W / reduce), 3).

    Raises:
        Fault: ``bad_image`` for a broken, truncated or absurdly large file or one that ``format``
            contradicts; ``unsupported_encoding`` for other codecs, 16 bit files and Bayer patterns
            that are not known.
    """
    data, size, bits = _inspected(msg)
    if bits > 8:
        raise Fault(
            "unsupported_encoding",
            f"a colour camera cannot have {bits} bits, which have no white level ('{msg.format}'):"
            " publish 8 bits",
        )
    pattern = _mosaic(msg.format)
    if pattern:
        pixels = decode(data, size, cv2.IMREAD_UNCHANGED)
        if pixels.ndim == 2:
            return _debayered(pixels, pattern)
    image = decode(data, size, cv2.IMREAD_COLOR if _READ_RGB is None else _READ_RGB, reduce)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if _READ_RGB is None else image


def compressed_to_thermal(msg: Any) -> np.ndarray:
    """Decode a thermal camera's JPEG or PNG to its raw counts; see ``thermal_to_array``.

    Args:
        msg: sensor_msgs/CompressedImage.

    Returns:
        uint8 or uint16 (H, W).

    Raises:
        Fault: as ``compressed_to_rgb``, and ``unsupported_encoding`` for false colours.
    """
    data, size, _ = _inspected(msg)
    image = decode(data, size, cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else _gray(image[..., :3])


def pixels_of(msg: Any) -> np.ndarray:
    """View the pixels of a raw image of a known encoding and a checked size, without a copy.

    The view is (H, W) or (H, W, C), in the message's byte order, strided where rows are padded.

    Raises:
        Fault: ``bad_image``.
    """
    kind, channels = _LAYOUTS[msg.encoding]
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    row = msg.width * channels * dtype.itemsize
    if msg.step < row:
        raise Fault(
            "bad_image",
            f"step {msg.step} is too short for {msg.width} pixels of {msg.encoding} ({row} bytes)",
        )
    _check_length(msg)
    shape = (msg.height, msg.width, channels)[: 2 if channels == 1 else 3]
    strides = (msg.step, channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    return np.ndarray(shape, dtype, buffer=msg.data, strides=strides)


def _gray(image: np.ndarray) -> np.ndarray:
    """Return one channel of a grey (H, W, 3) image."""
    difference = max(int(cv2.absdiff(image[..., i], image[..., 1]).max(initial=0)) for i in (0, 2))
    if difference > GREY_TOLERANCE:
        raise Fault(
            "unsupported_encoding",
            f"this thermal image is in false colours (channels differ by {difference}): publish "
            "the camera's mono8 or mono16 image",
        )
    return np.ascontiguousarray(image[..., 1])


def _mosaic(described: str) -> str:
    """Return the Bayer encoding of the pixels inside a compressed file, '' for none.

    ``described`` is "pixels; codec compressed pixels": the pixels of the message, and those that
    were compressed where they were converted before.
    """
    before, _, after = described.lower().partition("compressed")
    pixels = after.strip() or before.split(";")[0].strip()
    return pixels if pixels.startswith("bayer") else ""


def _debayered(mosaic: np.ndarray, encoding: str) -> np.ndarray:
    """Return the colours of a mosaic: uint8 (H, W) to (H, W, 3) RGB."""
    if encoding not in _TO_RGB:
        known = ", ".join(name for name in _TO_RGB if name.startswith("bayer"))
        raise Fault("unsupported_encoding", f"Bayer pattern '{encoding}' is none of {known}")
    if min(mosaic.shape) < 3:
        height, width = mosaic.shape
        raise Fault("bad_image", f"a {width}x{height} Bayer image has no colour")
    return cv2.cvtColor(mosaic, _TO_RGB[encoding])


def check_size(width: int, height: int) -> None:
    """Raise a ``bad_image`` Fault for an image that is empty or larger than ``MAX_PIXELS``."""
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise Fault(
            "bad_image",
            f"image size {width}x{height} must be positive and at most {MAX_PIXELS} pixels",
        )


def _check_length(msg: Any) -> None:
    if len(msg.data) < msg.step * msg.height:
        raise Fault(
            "bad_image",
            f"{len(msg.data)} bytes of data are too few for {msg.height} rows of {msg.step} bytes",
        )


def _inspected(msg: Any) -> tuple[bytes, tuple[int, int], int]:
    """Return the bytes of a CompressedImage, its (width, height) and bits per value, undecoded."""
    data = bytes(msg.data)
    size, bits = inspect(data, msg.format)
    check_size(*size)
    return data, size, bits
