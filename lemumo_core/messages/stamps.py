"""Headers of messages, and their time stamps."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from lemumo_core.faults import Fault

SINCE_EPOCH_NS = 10**18
"""Stamps from here on (2001-09-09) are dates; smaller ones count from power-on."""


class Header(NamedTuple):
    """Stamp and frame of a message, named as in std_msgs/Header."""

    stamp: Any
    frame_id: str


def header_of(message: Any) -> Any:
    """Return the header of a message; one with the same fields for a CompressedVideo."""
    if hasattr(message, "timestamp"):
        return Header(message.timestamp, message.frame_id)
    return message.header


def stamp_to_ns(stamp: Any) -> int:
    """Convert a builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def utc(stamp_ns: int) -> str:
    """Return a stamp as date and time for a page; one of a clock since power-on in seconds."""
    if abs(stamp_ns) < SINCE_EPOCH_NS:
        return f"{stamp_ns / 1e9:.3f} s"
    moment = datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=stamp_ns // 1000)
    return f"{moment.isoformat(' ', 'milliseconds').removesuffix('+00:00')} UTC"


def duration(seconds: float) -> str:
    """Return a length of time in the unit that fits it."""
    for unit, length_s in (("years", 31_557_600.0), ("days", 86_400.0), ("hours", 3600.0)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.1f} s"


def frame_of_cdr(data: bytes) -> str:
    """Read the frame of a serialised message that begins with a std_msgs/Header.

    It is empty where the bytes end before it.
    """
    try:
        (length,) = struct.unpack_from("<I" if data[1] & 1 else ">I", data, 12)
    except (IndexError, struct.error):
        return ""
    return bytes(data[16 : 16 + length]).rstrip(b"\0").decode(errors="replace")


def stamp_of_cdr(data: bytes) -> int:
    """Read the header stamp (ns) of a serialised message without deserialising the rest.

    The message must begin with a std_msgs/Header.

    Raises:
        Fault: ``bad_message`` where the bytes end before it.
    """
    try:
        sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    except (IndexError, struct.error):
        raise Fault("bad_message", f"{len(data)} bytes are too few for a header") from None
    return sec * 1_000_000_000 + nanosec


def describe_clock_offset(companion: str, ahead_ns: int) -> str:
    """Return a message about a companion whose stamps are of another clock than the images'.

    Args:
        companion: ``lidar`` or ``thermal``.
        ahead_ns: median of the companion's stamps less the images' at one time.
    """
    amount, side = duration(abs(ahead_ns) / 1e9), "ahead of" if ahead_ns > 0 else "behind"
    return (
        f"{companion} stamps are {amount} {side} the images' "
        "(median), so none belongs to an image: synchronise the clocks, or set companion_offset "
        f"to {ahead_ns / 1e9:.3f}"
    )
