"""Addresses of packages on the command line, and the stores that they mean."""

from __future__ import annotations

from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.files import URI
from lemumo_core.sharing.http_store import HttpStore
from lemumo_core.sharing.hub_store import HubStore
from lemumo_core.sharing.store import FolderStore, Store


def store_of(address: str) -> Store:
    """Return the store that a word of the command line means.

    Args:
        address: a folder, ``http(s)://HOST/PATH``, or ``hf://OWNER/NAME[@REVISION]``.

    Raises:
        Fault: ``bad_address`` for another scheme.
        ImportError: the hub's library is not installed.
    """
    found = URI.match(address)
    scheme = found[1].lower() if found else ""
    if scheme in ("http", "https"):
        return HttpStore(address)
    if scheme == "hf":
        return HubStore.of(address)
    if scheme:
        raise Fault(
            "bad_address",
            f"{address}: {scheme}:// is none of http://, https:// and hf://; copy the folder with "
            "that store's own tool (aws s3 sync, gcloud storage rsync) and name the copy",
        )
    return FolderStore(Path(address))
