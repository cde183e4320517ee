"""A real S3 server and access to its bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.s3_server import BUCKET, S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    """URI of the bucket, to which this process and those that it starts have access."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"
