"""Fast DDS transports that let megabyte messages through."""

from __future__ import annotations

import logging
import os
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
