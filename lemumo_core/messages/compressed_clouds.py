"""Point clouds of other types than PointCloud2: those of point_cloud_transport, and of Livox.

Whatever a cloud comes as, ``points_to_array`` reads the PointCloud2 that it stands for.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.messages.points import MAX_POINTS
from lemumo_core.messages.stamps import Header

COMPRESSED_CLOUD = "point_cloud_interfaces/msg/CompressedPointCloud2"
LIVOX_TYPES = tuple(
    f"{package}/msg/CustomMsg"
    for package in ("livox_ros_driver2", "livox_ros_driver", "livox_interfaces")
)
LIVOX_POINT = np.dtype(
    {
        "names": ["offset_time", "x", "y", "z", "intensity", "tag", "line"],
        "formats": ["<u4", "<f4", "<f4", "<f4", "u1", "u1", "u1"],
        "itemsize": 20,  # CDR pads each CustomPoint, but the last, to the alignment of the next
    }
)
FIELD_TYPES = {"u1": 2, "u4": 6, "f4": 7}
"""Type of a NumPy field to sensor_msgs/PointField's."""
MAX_POINT_BYTES = 1024
ANY_HEADER = 47
"""For zlib: data with a header of zlib or of gzip."""


@dataclass(frozen=True)
class PointField:
    """A sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass(frozen=True)
class Time:
    """A builtin_interfaces/Time."""

    sec: int
    nanosec: int


@dataclass(frozen=True, eq=False)
class PointCloud2:
    """A sensor_msgs/PointCloud2."""

    header: Any
    height: int
    width: int
    fields: Any
    point_step: int
    data: Any
    is_bigendian: bool = False
    is_dense: bool = False
    row_step: int = field(default=0)


LIVOX_FIELDS = tuple(
    PointField(name, int(LIVOX_POINT.fields[name][1]), FIELD_TYPES[LIVOX_POINT[name].str[1:]])  # type: ignore[index]
    for name in ("x", "y", "z", "intensity", "offset_time")
)


def livox_cloud(data: bytes | memoryview) -> PointCloud2:
    """Read the CDR of a Livox CustomMsg as a PointCloud2 with fields intensity and offset_time.

    Its bytes are read as they are, because ten thousand message objects would take a tenth of a
    second. The times of the points count from ``timebase``, which drivers write to the header too.

    Raises:
        Fault: ``bad_message``.
    """
    data = bytes(data)
    try:
        if not data[1] & 1:
            raise Fault("bad_message", "a Livox CustomMsg in big-endian CDR is not read")
        sec, nanosec, length = struct.unpack_from("<iII", data, 4)
        frame_id = data[16 : 16 + length - 1].decode()
        at = 4 + -(-(12 + length) // 8) * 8 + 8  # after timebase, whose alignment is 8
        (claimed,) = struct.unpack_from("<I", data, at)
        at += 8  # point_num, lidar_id and rsvd
        (count,) = struct.unpack_from("<I", data, at)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise Fault("bad_message", f"{len(data)} bytes are no Livox CustomMsg") from None
    points = data[at + 4 :]
    size = LIVOX_POINT.itemsize
    if count != claimed or count > MAX_POINTS or len(points) < count * size - 1:
        raise Fault(
            "bad_message",
            f"a Livox CustomMsg claims {claimed} points, and holds {len(points)} bytes of {count}",
        )
    header = Header(Time(sec, nanosec), frame_id)
    return PointCloud2(
        header, 1, count, LIVOX_FIELDS, size, points[: count * size].ljust(count * size, b"\0")
    )


def to_point_cloud(message: Any) -> Any:
    """Return the PointCloud2 of a CompressedPointCloud2; any other message as it is.

    Raises:
        Fault: ``unsupported_encoding`` for formats that no package of an index decodes;
            ``bad_point_cloud`` for damaged data; ``missing_package`` where the package that decodes
            it is not installed.
    """
    if not hasattr(message, "compressed_data"):
        return message
    size = int(message.height) * int(message.width) * int(message.point_step)
    if not 0 <= size <= MAX_POINTS * MAX_POINT_BYTES or message.point_step > MAX_POINT_BYTES:
        raise Fault("point_cloud_too_large", f"the compressed cloud claims {size} bytes")
    kind = message.format.strip().lower()
    packed = bytes(message.compressed_data)
    if kind == "draco":
        data = _draco(packed, message)
    elif kind == "zlib":
        data = _inflated(packed, size)
    elif kind == "zstd":
        data = _unpacked_zstd(packed, size)
    else:
        hint = " (no Python package decodes cloudini)" if "cloudini" in kind else ""
        raise Fault(
            "unsupported_encoding",
            f"compressed cloud '{message.format}' is none of draco, zlib, zstd{hint}: set the "
            "publisher's transport, or take its raw topic",
        )
    return PointCloud2(
        message.header,
        message.height,
        message.width,
        message.fields,
        message.point_step,
        data,
        message.is_bigendian,
        message.is_dense,
        message.row_step,
    )


def _inflated(packed: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(ANY_HEADER).decompress(packed, size)
    except zlib.error as error:
        raise Fault("bad_point_cloud", f"the zlib cloud is damaged: {error}") from None


def _unpacked_zstd(packed: bytes, size: int) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise _missing("zstd", "bags") from None
    try:
        return bytes(zstd.ZstdDecompressor().decompress(packed, size))
    except zstd.ZstdError as error:
        raise Fault("bad_point_cloud", f"the zstd cloud is damaged: {error}") from None


def _draco(packed: bytes, message: Any) -> bytes:
    """Return the points of a Draco cloud as the fields of the message lay them out.

    Its attributes are the fields, in their order.
    """
    try:
        import DracoPy
    except ImportError:
        raise _missing("draco", "clouds") from None
    try:
        attributes = DracoPy.decode(packed).attributes
    except Exception as error:  # the library has no common class for its errors
        raise Fault("bad_point_cloud", f"the draco cloud is damaged: {error}") from None
    count = int(message.height) * int(message.width)
    if len(attributes) != len(message.fields):
        raise Fault(
            "bad_point_cloud",
            f"the draco cloud has {len(attributes)} attributes for {len(message.fields)} fields",
        )
    points = np.zeros((count, message.point_step), np.uint8)
    for one, attribute in zip(message.fields, attributes, strict=True):
        values = np.ascontiguousarray(attribute["data"])
        columns = values.reshape(len(values), -1).view(np.uint8)
        end = one.offset + columns.shape[1]
        if len(columns) != count or end > message.point_step:
            raise Fault(
                "bad_point_cloud",
                f"field '{one.name}' of the draco cloud has {len(columns)} values of "
                f"{columns.shape[1]} bytes, for {count} points of {message.point_step} bytes",
            )
        points[:, one.offset : end] = columns
    return points.tobytes()


def _missing(kind: str, extra: str) -> Fault:
    return Fault(
        "missing_package",
        f"{kind} clouds need a package that is not installed: {install_line(extra)}",
    )
