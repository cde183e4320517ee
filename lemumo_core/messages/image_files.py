"""JPEG and PNG files inside messages.

They are inspected before anything is decoded, so that broken, truncated or absurdly large ones cost
nothing.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from lemumo_core.faults import Fault

_CODECS = {
    "compresseddepth": "compressed depth",
    "jpeg": "jpeg",
    "jpg": "jpeg",
    "png": "png",
    "tif": "tiff",
    "webp": "webp",
}
"""Words of CompressedImage's ``format`` that name a codec. Many drivers write none of them, or only
the codec, instead of the documented 'pixels; codec compressed pixels'."""

MAX_PIXELS = 64_000_000
"""Larger images are refused: no camera makes them, corrupt headers and decompression bombs do."""

MAX_JPEG_SCANS = 100
"""Encoders write about ten; a few bytes of each one more cost a pass over the whole image."""

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
"""First bytes of files of these codecs."""

_REDUCED = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""Flags of OpenCV by factor; grey alone implies no colour, which further flags add."""


def inspect(data: bytes, described: str) -> tuple[tuple[int, int], int]:
    """Return (width, height) and bits per value of a complete JPEG or PNG, without decoding it.

    Args:
        data: the file.
        described: CompressedImage's ``format``.

    Raises:
        Fault: ``bad_image`` for a broken or truncated file or one that ``described`` contradicts;
            ``unsupported_encoding`` for other codecs.
    """
    if data.startswith(JPEG):
        codec, (width, height, bits) = "jpeg", _inspect_jpeg(data)
    elif data.startswith(PNG):
        codec, (width, height, bits) = "png", _inspect_png(data)
    else:
        raise Fault(
            "unsupported_encoding",
            f"compressed image '{described}' is neither JPEG nor PNG, it begins with "
            f"{data[:8].hex() or 'nothing'}",
        )
    named = [name for name in _CODECS if name in described.lower()]
    if named and _CODECS[named[0]] != codec:
        raise Fault("bad_image", f"format '{described}' contradicts the data, which is {codec}")
    return (width, height), bits


def decode(data: bytes, size: tuple[int, int], flags: int, reduce: int = 1) -> np.ndarray:
    """Decode an inspected file; orientation tags are ignored.

    Args:
        data: the file.
        size: its (width, height).
        flags: as ``cv2.imdecode``.
        reduce: a JPEG to a half, quarter or eighth (2, 4, 8), rounded up; others stay whole.

    Raises:
        Fault: ``bad_image``.
    """
    if reduce > 1 and data.startswith(JPEG):
        flags |= _REDUCED[reduce]
        size = (-(-size[0] // reduce), -(-size[1] // reduce))
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise Fault("bad_image", f"the image does not decode: {error}") from error
    if image is None or image.shape[1::-1] != size:
        raise Fault("bad_image", f"the {size[0]}x{size[1]} image does not decode")
    return image


def _inspect_jpeg(data: bytes) -> tuple[int, int, int]:
    """Read width, height and bits from the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # alone, without a length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            # Inside the scans an 0xff byte is always escaped, so this is the end marker itself.
            if data.rfind(b"\xff\xd9") < at:
                raise Fault("bad_image", "truncated JPEG: its end-of-image marker is missing")
            if (scans := data.count(b"\xff\xda")) > MAX_JPEG_SCANS:
                raise Fault("bad_image", f"a JPEG of {scans} scans: this is no camera's")
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            return int.from_bytes(data[at + 7 : at + 9], "big"), height, data[at + 4]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise Fault("bad_image", "broken or truncated JPEG: it has no frame header")


def _inspect_png(data: bytes) -> tuple[int, int, int]:
    """Read width, height and bits from IHDR; all chunks must be whole (PNG, third edition, 5.3)."""
    if data[12:16] != b"IHDR":
        raise Fault("bad_image", "broken PNG: it does not begin with IHDR")
    at, kind = 8, b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise Fault("bad_image", "truncated PNG")
        kind = data[at + 4 : at + 8]
        checksum = zlib.crc32(memoryview(data)[at + 4 : end - 4])
        if checksum.to_bytes(4, "big") != data[end - 4 : end]:
            raise Fault("bad_image", f"broken PNG: wrong checksum of its {kind!r} chunk")
        at = end
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    return width, height, data[24]
