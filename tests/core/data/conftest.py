"""Fixtures of the tests of sources."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indices of bags go: a folder of each test's own."""
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bags"
