"""Publish a model package to a folder, an HTTP(S) URL or the Hugging Face Hub.

    lemumo push models/mine hf://OWNER/NAME
    lemumo push models/mine https://models.example.com/mine
    lemumo push models/mine /mnt/share/mine --overwrite

It is published if it is whole, and signed where a key is given. Its README.md is the model card.
A new repository on the hub is private. An HTTP server must take files by PUT (WebDAV, nginx's dav
module, object stores); the manifest comes last, so that no half package is taken for a whole one.

Exit codes: 0 done, or there already; 1 an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.cli.path_kinds import require_package
from lemumo_core.command_line import run_function
from lemumo_core.sharing.addresses import store_of
from lemumo_core.sharing.transfer import push


def push_package(
    package: Path, target: str, *, key: Path | None = None, overwrite: bool = False
) -> None:
    """Publish a model package.

    Args:
        package: folder of the package.
        target: a folder, http(s)://HOST/PATH, or hf://OWNER/NAME[@REVISION].
        key: public ed25519 key, a PEM file, whose owner must have signed the package.
        overwrite: replace another package there.
    """
    require_package(package, "PACKAGE")
    push(package, store_of(target), key, overwrite)
    print(f"{package} is at {target}: lemumo pull {target} FOLDER brings it")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo push``; return its exit code."""
    return run_function("lemumo push", push_package, arguments, __doc__)
