"""Sign a model package that is whole, with an ed25519 key.

lemumo sign PACKAGE --key private.pem
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.inference import signature
from lemumo_core.inference.package import load_package, read_manifest


def sign(package: Path, *, key: Path) -> None:
    """Sign a model package.

    Args:
        package: folder of the model package.
        key: private ed25519 key, a PEM file.
    """
    manifest = read_manifest(package)
    load_package(package)
    signature.sign(package, manifest, key)
    print(f"{package}: signed")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo sign``; return its exit code."""
    return run_function("lemumo sign", sign, arguments, __doc__)
