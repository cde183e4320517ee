"""Who made a package: an ed25519 signature (RFC 8032) beside its manifest.

The manifest holds the sha256 of every other file, so its bytes are all that needs to be signed.
Keys are PEM files as OpenSSL makes them; the signature is the plain 64 bytes that
``openssl pkeyutl -verify -rawin`` takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole

SIGNATURE_NAME = "manifest.sig"


def sign(folder: Path, manifest: bytes, private_key: Path) -> None:
    """Write the signature of a package's manifest.

    Args:
        folder: the package.
        manifest: bytes of its manifest, which was verified.
        private_key: PEM file, not encrypted.

    Raises:
        Fault: ``bad_key``.
    """
    key = _key(private_key, "private")
    write_whole(folder / SIGNATURE_NAME, key.sign(manifest))


def check_signature(folder: Path, manifest: bytes, public_key: Path) -> None:
    """Refuse a package that the holder of a key did not sign.

    Args:
        folder: the package.
        manifest: bytes of its manifest.
        public_key: PEM file.

    Raises:
        Fault: ``bad_signature``, ``bad_key``.
    """
    key = _key(public_key, "public")
    path = folder / SIGNATURE_NAME
    if not path.is_file():
        raise Fault(
            "bad_signature",
            f"{folder} is not signed, and only packages signed for {public_key} are taken: sign it "
            "with lemumo sign, or leave the public key out",
        )
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(path.read_bytes(), manifest)
    except InvalidSignature:
        raise Fault(
            "bad_signature",
            f"the signature of {folder} is not of this manifest and {public_key}: it was changed "
            "after it was signed, or signed with another key",
        ) from None


def _key(path: Path, kind: str) -> Any:
    """An ed25519 key from a PEM file."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ImportError(f"signatures need: {install_line('signing')}") from error
    try:
        data = Path(path).read_bytes()
        if kind == "private":
            key: Any = serialization.load_pem_private_key(data, password=None)
            wanted: type = ed25519.Ed25519PrivateKey
        else:
            key, wanted = serialization.load_pem_public_key(data), ed25519.Ed25519PublicKey
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise Fault("bad_key", f"{path} is no {kind} key: {error}") from error
    if not isinstance(key, wanted):
        raise Fault(
            "bad_key",
            f"{path} is a key of another kind: openssl genpkey -algorithm ed25519 -out key.pem; "
            "openssl pkey -in key.pem -pubout -out public.pem",
        )
    return key
