"""Point clouds in PCD files, as PCL, Open3D and CloudCompare write them.

Format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html. Compressed ones hold
one field after the other, packed by LZF (Marc Lehmann's liblzf).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault

COLUMNS: tuple[tuple[str, ...], ...] = (
    ("x",),
    ("y",),
    ("z",),
    ("intensity", "i", "reflectivity"),
    ("ring", "channel", "laser_id"),
)
"""Columns of a scan, by the names of fields that tools write, in lower case."""
KINDS = {"F": "f", "I": "i", "U": "u"}
"""Kinds of numbers, in PCD and in NumPy."""
SIZES_BYTES = 8
"""Length of the two sizes before packed data."""
LITERALS, LONG = 32, 7


def read_pcd(path: Path) -> np.ndarray:
    """Read the points of a PCD file: ascii, binary or binary_compressed.

    Returns:
        float32 (N, 3 to 5): x, y, z, metres, then intensity and ring where the file has them;
        intensity is 0 where it has rings alone.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_points``, naming the file, where it is no PCD, is cut off or lacks x, y or z.
    """
    content = existing(path, "a PCD file").read_bytes()
    try:
        fields = _fields(*_header(content))
        found = [next((n for n in names if n in fields), None) for names in COLUMNS]
        if None in found[:3]:
            raise ValueError(f"its fields are {', '.join(fields)}, without x, y and z")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise Fault(
            "bad_points", f"{path} is no whole PCD file: {error}; is the download complete?"
        ) from None
    while found[-1] is None:
        found.pop()
    points = np.zeros((len(fields["x"]), len(found)), np.float32)
    for column, name in enumerate(found):
        if name is not None:
            points[:, column] = fields[name]
    return points


def _header(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Return the words of the header's lines by the first of each, and the data behind it.

    Raises:
        ValueError: it is none.
    """
    header: dict[str, list[str]] = {}
    data = content
    while "DATA" not in header:
        line, newline, data = data.partition(b"\n")
        if not newline:
            raise ValueError("no line begins with DATA")
        words = line.decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
    if missing := {"FIELDS", "SIZE", "TYPE", "POINTS"} - header.keys():
        raise ValueError(f"its header lacks {', '.join(sorted(missing))}")
    return header, data


def _fields(header: Mapping[str, list[str]], data: bytes) -> dict[str, np.ndarray]:
    """Return the numbers (N,) of each field, the first of several, by its name in lower case.

    Raises:
        ValueError, TypeError, KeyError, IndexError: header and data do not fit, or sizes are none.
    """
    points, kind = int(header["POINTS"][0]), header["DATA"][0]
    names = [name.lower() for name in header["FIELDS"]]
    types = [
        np.dtype(f"<{KINDS[letter]}{size}")
        for letter, size in zip(header["TYPE"], header["SIZE"], strict=True)
    ]
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    widths = [t.itemsize * n for t, n in zip(types, counts, strict=True)]
    fields: dict[str, np.ndarray] = {}
    if kind == "ascii":
        rows = np.array(data.split(), np.float64).reshape(points, sum(counts))
        begins = np.cumsum([0, *counts])
        return {name: rows[:, begins[i]] for i, name in enumerate(names)}
    if kind == "binary_compressed":
        packed, size = np.frombuffer(data, "<u4", 2).tolist()
        if len(data) < SIZES_BYTES + packed:
            raise ValueError(f"of {packed} packed bytes it holds {len(data) - SIZES_BYTES}")
        data = unpack_lzf(data[SIZES_BYTES:][:packed], size)
    elif kind != "binary":
        raise ValueError(f"its data are {kind}, not ascii, binary or binary_compressed")
    if len(data) < points * sum(widths):
        raise ValueError(f"of {points * sum(widths)} bytes of points it holds {len(data)}")
    begin = 0
    for name, dtype, width in zip(names, types, widths, strict=True):
        if kind == "binary":  # point by point
            strides, step = (sum(widths),), width
        else:
            strides, step = (width,), points * width
        fields[name] = np.ndarray((points,), dtype, data, begin, strides)
        begin += step
    return fields


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """Unpack what LZF packed.

    Args:
        packed: runs of literal bytes, and copies of what lies behind.
        size: of the result, bytes.

    Raises:
        ValueError, IndexError: it is damaged.
    """
    out, i = bytearray(), 0
    while i < len(packed):
        control = packed[i]
        i += 1
        if control < LITERALS:
            out += packed[i : i + control + 1]
            i += control + 1
            continue
        length = control >> 5
        if length == LONG:
            length += packed[i]
            i += 1
        length += 2
        behind = ((control & 31) << 8) + packed[i] + 1
        i += 1
        begin = len(out) - behind
        if begin < 0:
            raise ValueError("its packed data are damaged")
        copied = out[begin : begin + length]
        while len(copied) < length:  # it repeats itself
            copied += copied[: length - len(copied)]
        out += copied
    if len(out) != size:
        raise ValueError(f"of {size} bytes {len(out)} could be unpacked")
    return bytes(out)
