"""Folders in a bucket of S3 or GCS, through pyarrow's file systems.

A file is written to the local disk first and sent in one request or one multipart upload, which the
store shows when it is complete. What a process that was killed had sent is never seen; a rule of
the bucket's life cycle that aborts incomplete uploads frees its space.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lemumo_core.faults import Fault
from lemumo_core.files import disk_errors_named, output_exists
from lemumo_core.folders.folder import Folder, at_once

BUCKETS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Scheme of a URI that can be written to, and what of the environment gives access."""


class BucketFolder(Folder):
    """A folder in a bucket; credentials and endpoint are those of the environment.

    Args:
        uri: of a folder, whose query may hold options of pyarrow's file system.
        below: path of this folder in it, with a slash before each part.

    Raises:
        Fault: ``bad_output`` of every method, where the store refuses.
        ImportError: pyarrow is not installed; of every method.
    """

    def __init__(self, uri: str, below: str = ""):
        self._uri, self._below = uri, below

    def __str__(self) -> str:
        uri = urlsplit(self._uri)  # whose user part may be a secret
        return f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}{uri.path.rstrip('/')}{self._below}"

    def __truediv__(self, name: str) -> BucketFolder:
        return BucketFolder(self._uri, f"{self._below}/{name}")

    def __getstate__(self) -> dict[str, str]:
        return {"_uri": self._uri, "_below": self._below}

    def check(self, holds: str | None = None, overwrite: bool = False) -> None:
        """See ``Folder``; the folder is made, because only that shows whether one may write."""
        if holds is not None and not overwrite and self.has(holds):
            raise output_exists(f"--out {self}", holds)
        self.create()

    def create(self) -> None:
        """See ``Folder``."""
        with self._errors_named():
            self._files.create_dir(self._path, recursive=True)

    def exists(self) -> bool:
        """See ``Folder``."""
        return self._has(self._path)

    def names(self) -> set[str]:
        """See ``Folder``."""
        return {one.base_name for one in self._listed(recursive=False)}

    def has(self, name: str) -> bool:
        """See ``Folder``."""
        return self._has(f"{self._path}/{name}")

    def read(self, name: str) -> bytes:
        """See ``Folder``."""
        with self._errors_named(), self._files.open_input_stream(f"{self._path}/{name}") as stream:
            data: bytes = stream.read()
        return data

    def open(self, name: str) -> Any:
        """See ``Folder``."""
        with self._errors_named():
            return self._files.open_input_file(f"{self._path}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ``Folder``."""
        with (
            disk_errors_named(tempfile.gettempdir()),
            tempfile.NamedTemporaryFile(prefix="lemumo-") as file,
        ):
            yield file
            file.flush()
            self._send(Path(file.name), name)

    def delete(self, name: str) -> None:
        """See ``Folder``."""
        with suppress(FileNotFoundError), self._errors_named():  # another host has done so
            self._files.delete_file(f"{self._path}/{name}")

    def remove(self) -> None:
        """See ``Folder``."""
        with self._errors_named():
            self._files.delete_dir(self._path)

    def begin(self) -> Path:
        """See ``Folder``."""
        folder = Path(tempfile.mkdtemp(prefix="lemumo-")) / self.name
        folder.mkdir()
        return folder

    def put(self, filled: Path, last: str) -> None:
        """See ``Folder``."""
        start = len(self._path) + 1
        there = {one.path[start:] for one in self._listed(recursive=True) if one.is_file}
        new = _names(filled) - {last}
        self.write(last, b"")
        at_once(self.delete, there - new - {last})
        at_once(lambda name: self._send(filled / name, name), new)
        self._send(filled / last, last)
        shutil.rmtree(filled.parent)

    @contextmanager
    def mirror(self, names: Iterable[str] = ()) -> Iterator[Path]:
        """See ``Folder``; it is a temporary one."""
        with tempfile.TemporaryDirectory(prefix="lemumo-") as scratch:
            local = Path(scratch)
            at_once(lambda name: self._fetch(name, local / name), names)
            there = _names(local)
            yield local
            at_once(lambda name: self._send(local / name, name), _names(local) - there)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import fs

        with self._errors_named():
            files, path = fs.FileSystem.from_uri(self._uri)
        return files, path

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _path(self) -> str:
        return f"{self._opened[1].rstrip('/')}{self._below}"

    def _has(self, path: str) -> bool:
        from pyarrow import fs

        with self._errors_named():
            found: bool = self._files.get_file_info(path).type != fs.FileType.NotFound
        return found

    def _listed(self, recursive: bool) -> list[Any]:
        from pyarrow import fs

        selector = fs.FileSelector(self._path, recursive=recursive, allow_not_found=True)
        with self._errors_named():
            found: list[Any] = self._files.get_file_info(selector)
        return found

    def _fetch(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.write_bytes(self.read(name))

    def _send(self, path: Path, name: str) -> None:
        """Send a file by one call: pyarrow completes what an interrupted loop has begun."""
        with path.open("rb") as file, self._errors_named():
            size = path.stat().st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            with self._files.open_output_stream(f"{self._path}/{name}") as stream:
                stream.write(data)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Name the folder, and what may be wrong, where the store refuses."""
        try:
            yield
        except (FileNotFoundError, Fault):  # a Fault names the folder already
            raise
        except (OSError, ValueError) as error:  # ArrowInvalid, of the URI, is a ValueError
            access = BUCKETS[urlsplit(self._uri).scheme]
            raise Fault(
                "bad_output",
                f"{self} cannot be used: {error}; check that the bucket exists, and access to it "
                f"(of the environment: {access})",
            ) from error


def _names(folder: Path) -> set[str]:
    """Return the files below a local folder."""
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
