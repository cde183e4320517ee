"""Check that a model package is whole, and signed where a key is given.

    lemumo verify PACKAGE --key public.pem

Exit codes: 0 it is, 1 it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.inference.package import load_package


def verify(package: Path, *, key: Path | None = None) -> None:
    """Check a model package.

    Args:
        package: folder of the model package.
        key: public ed25519 key, a PEM file.
    """
    manifest = load_package(package, key).manifest
    signed = f", signed for {key}" if key else ""
    print(f"{package}: {manifest.name} {manifest.version} is whole{signed}")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo verify``; return its exit code."""
    return run_function("lemumo verify", verify, arguments, __doc__)
