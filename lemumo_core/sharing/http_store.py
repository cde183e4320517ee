"""A package behind an HTTP server: files by GET with ranges, and by PUT."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lemumo_core.faults import Fault
from lemumo_core.inference.signature import SIGNATURE_NAME

TOKEN = "LEMUMO_TOKEN"
"""Environment variable whose value is sent as a bearer token, to the host that was named alone."""
ATTEMPTS = 3
TIMEOUT_S = 60.0
BLOCK = 1 << 20
PARTIAL, RANGE_NOT_SATISFIABLE = 206, 416
BROKEN = (ConnectionError, TimeoutError, http.client.HTTPException)


class HttpStore:
    """A package whose files lie below one URL.

    Args:
        url: of the folder, or of its manifest.
    """

    def __init__(self, url: str):
        self.url = url.removesuffix("/manifest.json").rstrip("/")

    def fetch(self, name: str, path: Path) -> None:
        """See ``Store``; a connection that breaks is taken up again where it ended."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._fetch(name, path):
                    return
                why = "the connection ended early"
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError):
                    raise self._refused(error, name) from error
                why = str(error.reason)
            except BROKEN as error:
                why = str(error) or type(error).__name__
            if attempt == ATTEMPTS:
                raise Fault(
                    "bad_source",
                    f"{self.url}/{name}: {why}, {ATTEMPTS} times; run the command again, it goes "
                    "on where it stopped",
                )

    def publish(self, folder: Path, names: Sequence[str]) -> None:
        """See ``Store``."""
        if SIGNATURE_NAME not in names:
            self._delete(SIGNATURE_NAME)  # of an earlier package
        for name in names:
            with (folder / name).open("rb") as file:
                request = self._request(name, data=file, method="PUT")
                request.add_header("Content-Length", str((folder / name).stat().st_size))
                request.add_header("Content-Type", "application/octet-stream")
                try:
                    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                        pass
                except urllib.error.HTTPError as error:
                    raise self._refused(error, name) from error
                except (urllib.error.URLError, *BROKEN) as error:
                    raise Fault(
                        "bad_target",
                        f"{self.url}/{name} was not written ({error}): the package there is not "
                        "whole until the command has run again",
                    ) from error

    def _delete(self, name: str) -> None:
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(self._request(name, method="DELETE"), timeout=TIMEOUT_S).close()

    def _fetch(self, name: str, path: Path) -> bool:
        """Bring what is missing; return whether all that was announced has come."""
        begin = path.stat().st_size if path.exists() else 0
        request = self._request(name)
        if begin:
            request.add_header("Range", f"bytes={begin}-")
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != RANGE_NOT_SATISFIABLE:
                raise
            return True  # nothing is missing; its digest tells
        with response:
            goes_on = response.status == PARTIAL
            with path.open("ab" if goes_on else "wb") as file:
                announced, came = response.headers.get("Content-Length"), 0
                while block := response.read(BLOCK):
                    file.write(block)
                    came += len(block)
        return announced is None or came == int(announced)

    def _request(self, name: str, **more: Any) -> urllib.request.Request:
        request = urllib.request.Request(f"{self.url}/{quote(name)}", **more)
        if token := os.environ.get(TOKEN):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return request

    def _refused(self, error: urllib.error.HTTPError, name: str) -> Exception:
        where = f"{self.url}/{name}"
        if error.code in (404, 410):
            return FileNotFoundError(f"{where}: HTTP {error.code}, there is no such file")
        if error.code in (401, 403):
            return Fault(
                "no_access",
                f"{where}: HTTP {error.code}; put a token that this server takes into the "
                f"environment variable {TOKEN}",
            )
        if error.code in (405, 501):
            return Fault(
                "bad_target",
                f"{where}: HTTP {error.code}; this server takes no files by PUT: push to a folder "
                "that it serves",
            )
        return Fault("bad_source", f"{where}: HTTP {error.code} {error.reason}")
