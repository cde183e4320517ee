"""Paths and URIs of the command line, and the folders that they mean."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from lemumo_core.faults import Fault
from lemumo_core.files import URI
from lemumo_core.folders.bucket import BUCKETS, BucketFolder
from lemumo_core.folders.folder import Folder
from lemumo_core.folders.local import LocalFolder


def open_folder(place: str | Path | Folder) -> Folder:
    """Return the folder that a path or URI means; nothing is looked up yet.

    Args:
        place: a path, or a URI of the scheme ``file`` or of ``BUCKETS``; a folder is returned.

    Raises:
        Fault: ``bad_output`` for another scheme.
    """
    if isinstance(place, Folder):
        return place
    found = URI.match(str(place))
    if found is None:
        return LocalFolder(Path(place))
    uri = URI.sub(r"\1://", str(place), count=1)
    if found[1] == "file":
        return LocalFolder(Path(unquote(f"/{uri.removeprefix('file://').lstrip('/')}")))
    if found[1] not in BUCKETS:
        raise Fault(
            "bad_output",
            f"--out {uri}: only {', '.join(f'{one}://' for one in BUCKETS)} and folders can be "
            "written: name a folder and copy it afterwards",
        )
    return BucketFolder(uri)
