"""Folders of installed packages' files, found as ament_index does, without it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lemumo_core.faults import Fault

PACKAGE = "lemumo_ros"
SCHEME = "package://"


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


def resolve(url: str) -> Path:
    """Return the file or folder that a path, ``file://`` or ``package://PACKAGE/PATH`` names.

    Raises:
        Fault: ``no_file`` where no folder of the package has it.
    """
    if not url.startswith(SCHEME):
        return Path(url.removeprefix("file://")).expanduser()
    package, _, path = url.removeprefix(SCHEME).partition("/")
    candidates = [folder / path for folder in share_folders(package)]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        searched = ", ".join(map(str, candidates))
        raise Fault("no_file", f"{url} is none of {searched}: source the setup of {package}")
    return found
