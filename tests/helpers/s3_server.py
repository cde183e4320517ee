"""An S3 server on this machine: moto's, in a process of its own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.helpers.waiting import wait_until

BUCKET = "fleet"


class S3Server:
    """A running server; a bucket is there.

    Attributes:
        url: of it.
        environment: by which clients find it.
        log: what it was asked for.
    """

    def __init__(self, url: str, log: Path):
        self.url, self.log = url, log
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def ask_for_credentials(self, wanted: bool) -> None:
        """Refuse keys that no user has, as these are, or take all."""
        self._send("POST", "moto-api/reset-auth", b"0" if wanted else b"inf")

    def requests(self, *methods: str) -> list[str]:
        """Return what it was asked for, paths with their queries, in order."""
        return re.findall(rf"(?:{'|'.join(methods)}) (/\S*)", self.log.read_text())

    def make_bucket(self) -> None:
        self._send("PUT", BUCKET)

    def _send(self, method: str, path: str, data: bytes = b"") -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"{self.url}/{path}", data, headers, method=method)).close()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start a server; the test is skipped where moto is not installed."""
    pytest.importorskip("moto", reason="needs: pip install '.[test]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = S3Server(f"http://127.0.0.1:{port}", folder / "moto.log")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with server.log.open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, server.log.read_text()
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, "the S3 server")
        server.make_bucket()
        yield server
    finally:
        process.kill()
        process.wait()
