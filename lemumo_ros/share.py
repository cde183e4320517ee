"""Folders of installed packages' files, found as ament_index does, without it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = "lemumo_ros"


def share_folders(package: str = PACKAGE) -> list[Path]:
    """Return the folders in which a package's files may be, the likeliest first.

    They are ``share/PACKAGE`` of each prefix in AMENT_PREFIX_PATH and of this Python; for our own
    package first the checkout.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folders = [Path(prefix) / "share" / package for prefix in (*prefixes, sys.prefix)]
    if package == PACKAGE:
        folders.insert(0, Path(__file__).resolve().parent.parent)
    return folders
