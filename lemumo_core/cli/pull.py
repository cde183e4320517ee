"""Bring a model package from a folder, an HTTP(S) URL or the Hugging Face Hub.

    lemumo pull https://models.example.com/mine models/mine
    lemumo pull hf://OWNER/NAME models/mine
    lemumo pull hf://OWNER/NAME@REVISION models/mine --key public.pem
    lemumo pull /mnt/share/mine models/mine --overwrite

The package appears when every file has come and has the sha256 of its manifest. A pull that was
interrupted goes on where it stopped, and files that an earlier package has already are not brought
again. LEMUMO_TOKEN is sent to an HTTP server as a bearer token; the hub takes HF_TOKEN.

Exit codes: 0 done, or there already; 1 an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.files import disk_errors_named
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.sharing.addresses import store_of
from lemumo_core.sharing.transfer import pull


def pull_package(
    source: str, out: Path, *, key: Path | None = None, overwrite: bool = False
) -> None:
    """Bring a model package.

    Args:
        source: a folder, http(s)://HOST/PATH, or hf://OWNER/NAME[@REVISION].
        out: folder of the package here.
        key: public ed25519 key, a PEM file, whose owner must have signed the package.
        overwrite: replace another package in ``out``.
    """
    with disk_errors_named(out):
        package = pull(store_of(source), out, key, overwrite, print)
    manifest = package.manifest
    signed = f", signed for {key}" if key else ""
    print(f"{out}: {manifest.name} {manifest.version} is whole{signed}")
    if note := rendered_note(manifest):
        print(note)


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo pull``; return its exit code."""
    return run_function("lemumo pull", pull_package, arguments, __doc__)
