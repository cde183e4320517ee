"""Files that appear whole or not at all, folders of outputs, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from lemumo_core.faults import Fault

CACHE_VARIABLE = "LEMUMO_CACHE"
URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
"""Beginning of a URI, of which ``pathlib`` drops the second slash."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of writing that are the disk's: full, over a quota, too small for the file, read-only."""
UNFINISHED = re.compile(r"~(?P<host>[^~]+)~(?P<process>\d+)~[0-9a-f]{8}\.tmp$")
"""End of the name of what is being written, and by which process of which host."""
UNFINISHED_S = 24 * 3600.0
"""After this time without a change, whatever is being written by another host is given up."""


def cache_folder() -> Path:
    """Return ``$LEMUMO_CACHE``, or ``lemumo`` in the user's cache folder; it need not exist."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lemumo"


@contextlib.contextmanager
def contents_of(
    path: Path, reason: str = "bad_table", cure: str = "is the download complete?"
) -> Iterator[None]:
    """Name a file, or the folder of some, in what is wrong with what it holds.

    Args:
        path: of what is read inside.
        reason: of the Fault for contents of another type or shape than the format has.
        cure: what its message ends with.

    Raises:
        Fault: of ``reason``, or one that was raised inside, beginning with the path.
    """
    try:
        yield
    except Fault as fault:
        words = str(fault) if str(path) in str(fault) else f"{path}: {fault}"
        raise Fault(fault.reason, words) from None
    except UnicodeDecodeError as error:
        raise Fault(reason, f"{path} is not UTF-8 text: byte {error.start}; {cure}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Fault(reason, f"{path} is not as documented: {error!r}; {cure}") from None
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise Fault(reason, f"{path} is not YAML: {words}") from None


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is there twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is there twice", mark
                )
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds that a user wrote, or ``ros2 topic echo``, dashes at its end.

    Raises:
        yaml.YAMLError: also for a key that a mapping has twice.
        UnicodeDecodeError: it is not UTF-8.
        OSError: it cannot be read.
    """
    return yaml.load(path.read_text("utf-8").rstrip().removesuffix("\n---"), _UniqueKeys)


def as_uri(path: str | Path) -> str | None:
    """Return the URI that a path means, also where it lost a slash; None for a plain path."""
    found = URI.match(str(path))
    if found is None:
        return None
    slashes = "///" if found[1] == "file" else "//"
    return f"{found[1]}:{slashes}{str(path)[found.end() :]}"


def uri_cure(path: str | Path) -> str:
    """Return what follows a message that a local path does not exist; empty if it is no URI."""
    if as_uri(path) is None:
        return ""
    return (
        "; it is a URI, and this is read from local folders only: copy it to one, e.g. by aws s3 "
        "sync or gcloud storage rsync, and name that"
    )


def check_output(
    path: Path, holds: str | None = None, overwrite: bool = False, option: str = "--out"
) -> None:
    """Check that a folder of outputs can be written, before any work begins.

    Args:
        path: folder, which need not exist.
        holds: file by which the outputs of an earlier run are known, e.g. ``metrics.json``.
        overwrite: whether these may be replaced.
        option: that named the folder, for messages.

    Raises:
        Fault: ``bad_output`` for a URI, a file, or a folder that cannot be written;
            ``output_exists`` where earlier outputs would be lost.
    """
    given = f"{option} {path}"
    if uri := as_uri(path):
        raise Fault(
            "bad_output",
            f"{option} {uri} is a URI, and this is written to local folders only: name a folder "
            "and copy it afterwards, e.g. aws s3 sync or gcloud storage rsync",
        )
    nearest = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise Fault("bad_output", f"{given}: {nearest} is not a folder: take another name")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Fault(
            "bad_output",
            f"{given}: {nearest} cannot be written (its permissions, or a read-only disk): take "
            "another folder",
        )
    if holds is not None and not overwrite and (path / holds).exists():
        raise output_exists(given, holds)


def output_exists(given: str, holds: str) -> Fault:
    """Return the Fault of a folder with the outputs of an earlier run.

    Args:
        given: option and folder.
        holds: file by which they are known.
    """
    return Fault(
        "output_exists",
        f"{given} holds the results of an earlier run ({holds}): take another folder, or add "
        "--overwrite to replace them",
    )


@contextlib.contextmanager
def disk_errors_named(folder: object) -> Iterator[None]:
    """Name the folder, by its string, that is written to where its disk is full or read-only.

    Raises:
        Fault: ``bad_output`` in place of the block's ``OSError`` of ``DISK_ERRORS``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise Fault(
            "bad_output",
            f"{folder} cannot be written: {error.strerror}; free space on its disk, or take "
            "another folder",
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its place only when the block ends, even before a power cut.

    If the block raises, nothing has changed.

    Raises:
        OSError: the folder cannot be made or written, or is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished_name(path)
    handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # whatever the umask: the node's own user reads it
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def unfinished_folder(path: Path) -> Path:
    """Make a folder of the same name elsewhere, to be filled and then ``put_in_place``."""
    unfinished = _unfinished_name(path) / path.name
    unfinished.mkdir(parents=True)
    return unfinished


def put_in_place(unfinished: Path, path: Path) -> None:
    """Give a folder its name; an earlier one of that name is deleted.

    Of several processes that fill the same folder, the last one stays.
    """
    while True:
        try:
            unfinished.rename(path)
            unfinished.parent.rmdir()
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        earlier = _unfinished_name(path)
        with contextlib.suppress(FileNotFoundError):  # another process has moved it away
            path.rename(earlier)
        shutil.rmtree(earlier, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left of ``whole_file`` and ``unfinished_folder``.

    Others may be writing to the folder, on other hosts too. So only that is deleted which a process
    of this host began that is gone, and what has not changed for a day.
    """
    for path in folder.glob(".*.tmp"):
        found = UNFINISHED.search(path.name)
        if found is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile
            changed = max(one.stat().st_mtime for one in (path, *path.rglob("*")))
            is_old = time.time() - changed > UNFINISHED_S
            is_ours = found["host"] == socket.gethostname()
            if not (is_old or (is_ours and not _is_running(int(found["process"])))):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def note_use(copy: Path) -> None:
    """Note for ``make_room`` that a file is used now, where the cache may be written."""
    with contextlib.suppress(OSError):  # another user's, or a read-only disk
        os.utime(copy)


def make_room(copies: Iterable[Path], most_bytes: int) -> list[Path]:
    """Delete files until they take no more than so much, those used longest ago first.

    What was used last is known by the time of modification (``note_use``). A process that has one
    open keeps it, and other processes may make room at the same time.

    Returns:
        The deleted ones.
    """
    found = []
    for copy in copies:
        with contextlib.suppress(FileNotFoundError):  # another process made room
            found.append((copy.stat(), copy))
    used = sum(stat.st_size for stat, _ in found)
    deleted = []
    for stat, copy in sorted(found, key=lambda pair: pair[0].st_mtime_ns):
        if used <= most_bytes:
            break
        copy.unlink(missing_ok=True)
        used -= stat.st_size
        deleted.append(copy)
    return deleted


def _unfinished_name(path: Path) -> Path:
    token = secrets.token_hex(4)
    return path.with_name(f".{path.name}~{socket.gethostname()}~{os.getpid()}~{token}.tmp")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file as ``whole_file`` does."""
    with whole_file(path) as file:
        file.write(data)
