"""Zstandard, as bags have it: files, messages and chunks.

Needs Python 3.14, or the backport of its module that rosbags installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MAGIC = b"\x28\xb5\x2f\xfd"
"""How compressed data begins; CDR begins with a zero."""

CHUNK_BYTES = 1 << 20


def beginning(data: bytes) -> bytes:
    """Decompress one frame; of one that was cut off, what is left of its beginning.

    Raises:
        ValueError: it is damaged.
    """
    zstd = _library()
    try:
        return bytes(zstd.ZstdDecompressor().decompress(data))
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def decompress_file(path: Path, target: Path) -> None:
    """Decompress a file; of one that is damaged, the beginning is written.

    Raises:
        ValueError: it is damaged or was cut off.
    """
    zstd = _library()
    decompressor = zstd.ZstdDecompressor()
    with path.open("rb") as source, target.open("wb") as file:
        data = b""
        while data := data or source.read(CHUNK_BYTES):
            if decompressor.eof:  # a file may hold several frames
                decompressor = zstd.ZstdDecompressor()
            try:
                file.write(decompressor.decompress(data))
            except zstd.ZstdError as error:
                raise ValueError(str(error)) from error
            data = decompressor.unused_data
    if not decompressor.eof:
        raise ValueError("it was cut off")


def _library() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        from backports import zstd
    return zstd
