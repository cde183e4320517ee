"""Megabyte messages: transports of Fast DDS that let them through, and memory kept for them."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path

from lemumo_ros.share import share_folders

log = logging.getLogger(__name__)

VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""The current name, and the one that Humble to Jazzy read."""
RELATIVE = Path("config") / "fastdds.xml"


def select_transport() -> None:
    """Let Fast DDS load our profile, unless the user chose one. Call before ``rclpy.init``.

    With the stock profile best-effort messages of more than 512 KB vanish without an error.
    """
    if any(name in os.environ for name in VARIABLES):
        return
    for folder in share_folders():
        if (folder / RELATIVE).is_file():
            os.environ[VARIABLES[0]] = str(folder / RELATIVE)
            if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy"):
                os.environ[VARIABLES[1]] = str(folder / RELATIVE)
            return
    log.warning("%s is not installed: large best-effort messages may vanish", RELATIVE)


def keep_large_blocks() -> None:
    """Let malloc keep megabyte buffers instead of mapping new ones for each message (glibc only).

    Cuts the cost of receiving a 7 MB image to a quarter; see mallopt(3) for the three options.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option, value in ((-3, 32 << 20), (-1, 512 << 20), (-2, 64 << 20)):
                libc.mallopt(option, value)
