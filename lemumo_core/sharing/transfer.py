"""Bring packages here, and publish them: whole, checked, or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.files import check_output
from lemumo_core.inference.manifest import parse_manifest
from lemumo_core.inference.package import (
    MANIFEST_NAME,
    Package,
    load_package,
    read_manifest,
    sha256,
)
from lemumo_core.inference.signature import SIGNATURE_NAME, check_signature
from lemumo_core.sharing.store import NO_REPOSITORY, FolderStore, Store

PART = ".part"
"""Suffix of a file that is not known to be whole."""


def staging_folder(out: Path) -> Path:
    """Return the folder beside ``out`` in which a package is gathered."""
    return out.absolute().with_name(f".{out.name}.pull")


def pull(
    store: Store,
    out: Path,
    public_key: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Package:
    """Bring a package into a folder, where it appears when it is whole and checked.

    What an interrupted call has gathered stays beside ``out``, and the next one goes on with it.
    Files that an earlier package in ``out`` has already are not brought again.

    Args:
        store: where it is.
        out: folder.
        public_key: PEM file of an ed25519 key that must have signed it; None: nobody must.
        overwrite: replace another package in ``out``; other files there stay.
        report: is given a line for each file that is brought.

    Raises:
        Fault: ``output_exists``, ``bad_output``; ``bad_package`` for what is no package, or a file
            that has not the sha256 of the manifest; ``bad_signature``; as the store.
    """
    check_output(out)
    staging = staging_folder(out)
    staging.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(store, staging)
    if (out / MANIFEST_NAME).is_file():
        if read_manifest(out) == manifest and _is_whole(out, public_key):
            shutil.rmtree(staging)
            return load_package(out, public_key)
        check_output(out, MANIFEST_NAME, overwrite)
    elif out.is_dir() and any(out.iterdir()):
        raise Fault(
            "bad_output", f"{out} holds other files and no package: name a new folder for it"
        )
    with contextlib.suppress(FileNotFoundError):
        _fetch_again(store, SIGNATURE_NAME, staging / SIGNATURE_NAME)
    if public_key is not None:
        check_signature(staging, manifest, public_key)
    files = parse_manifest(json.loads(manifest), staging / MANIFEST_NAME).files
    for name, digest in files.items():
        _gather(store, name, digest, staging, out, report)
    load_package(staging, public_key)
    _take_place(staging, out, {*files, MANIFEST_NAME, SIGNATURE_NAME})
    return load_package(out, public_key)


def push(
    package: Path, store: Store, public_key: Path | None = None, overwrite: bool = False
) -> None:
    """Publish a package that is whole.

    Args:
        package: its folder.
        store: where to.
        public_key: as of ``pull``; checked before anything is published.
        overwrite: replace another package there.

    Raises:
        Fault: as ``load_package`` and the store; ``output_exists`` where the store holds another.
    """
    names = list(load_package(package, public_key).manifest.files)
    if isinstance(store, FolderStore):
        pull(FolderStore(package), store.folder, public_key, overwrite)
        return
    if not overwrite and (there := _published(store, package)) is not None:
        if there == read_manifest(package):
            return
        raise Fault(
            "output_exists",
            "another package is there: add --overwrite to replace it, or name another place",
        )
    names += [SIGNATURE_NAME] if (package / SIGNATURE_NAME).is_file() else []
    store.publish(package, [*names, MANIFEST_NAME])


def _published(store: Store, package: Path) -> bytes | None:
    """Return the manifest that a store holds already; None where it holds none."""
    copy = package.absolute().with_name(f".{package.name}.published")
    try:
        _fetch_again(store, MANIFEST_NAME, copy)
        return copy.read_bytes()
    except FileNotFoundError:
        return None
    except Fault as fault:
        if fault.reason != NO_REPOSITORY:
            raise
        return None
    finally:
        copy.unlink(missing_ok=True)


def _manifest(store: Store, staging: Path) -> bytes:
    try:
        _fetch_again(store, MANIFEST_NAME, staging / MANIFEST_NAME)
    except (FileNotFoundError, Fault) as error:
        with contextlib.suppress(OSError):
            staging.rmdir()  # unless it holds what was gathered before
        if isinstance(error, Fault):
            raise
        raise Fault(
            "bad_package", f"{error}: it is no model package; name the folder that holds one"
        ) from error
    data = read_manifest(staging)
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Fault("bad_package", f"the {MANIFEST_NAME} there is not JSON: {error}") from error
    return data


def _fetch_again(store: Store, name: str, path: Path) -> None:
    """Bring a file that may have changed."""
    path.unlink(missing_ok=True)
    store.fetch(name, path)


def _gather(
    store: Store, name: str, digest: str, staging: Path, out: Path, report: Callable[[str], None]
) -> None:
    path, part = staging / name, staging / f"{name}{PART}"
    if path.is_file() and sha256(path) == digest:
        return
    if (out / name).is_file() and sha256(out / name) == digest:
        shutil.copyfile(out / name, path)
        return
    was_begun = part.exists()
    report(f"{name}, which was begun" if was_begun else name)
    store.fetch(name, part)
    if was_begun and sha256(part) != digest:  # it was a part of another file
        _fetch_again(store, name, part)
    if sha256(part) != digest:
        part.unlink()
        raise Fault(
            "bad_package",
            f"{name} does not have the sha256 of its manifest: it was damaged on the way, or is "
            "being replaced there; run the command again",
        )
    part.rename(path)


def _is_whole(folder: Path, public_key: Path | None) -> bool:
    try:
        load_package(folder, public_key)
    except Fault as fault:
        if fault.reason != "bad_package":
            raise
        return False
    return True


def _take_place(staging: Path, out: Path, files: set[str]) -> None:
    """Exchange the folders; of what lies in ``out`` beside its package, nothing is lost."""
    for entry in staging.iterdir():
        if entry.name not in files:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if not out.exists():
        staging.rename(out)
        return
    earlier = set()
    if (out / MANIFEST_NAME).is_file():
        with contextlib.suppress(Fault, ValueError):
            document = json.loads(read_manifest(out))
            earlier = {*document.get("files", {}), MANIFEST_NAME, SIGNATURE_NAME}
    for entry in out.iterdir():
        if entry.name not in earlier and not (staging / entry.name).exists():
            shutil.move(entry, staging / entry.name)
    old = staging.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    staging.rename(out)
    shutil.rmtree(old)
