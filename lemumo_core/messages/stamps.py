"""Time stamps of messages."""

from __future__ import annotations

import struct
from typing import Any

from lemumo_core.faults import Fault


def stamp_to_ns(stamp: Any) -> int:
    """Convert a builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


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
