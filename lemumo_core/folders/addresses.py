"""Paths and URIs of the command line, and the folders that they mean."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from lemumo_core.faults import Fault
from lemumo_core.files import as_uri
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
    uri = as_uri(place)
    if uri is None:
        return LocalFolder(Path(place))
    scheme, _, path = uri.partition("://")
    if scheme == "file":
        return LocalFolder(Path(unquote(path)))
    if scheme not in BUCKETS:
        raise Fault(
            "bad_output",
            f"--out {uri}: only {', '.join(f'{one}://' for one in BUCKETS)} and folders can be "
            "written: name a folder and copy it afterwards",
        )
    return BucketFolder(uri)
