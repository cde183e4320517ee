"""The source of frames that a benchmark is given."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.registry import open_source

STREETS = {"frames": "40", "split": "test", "frames_per_drive": "2"}
"""Options of rendered streets, unless others are given."""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data NAME`` and ``OPTION=VALUE ...``."""
    parser.add_argument("--data", default="synthetic", help="name of a source")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="of the source")


def named_source(name: str, words: Sequence[str]) -> FrameSource:
    """Open the source that these arguments name.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``open_source``.
    """
    options = dict(word.split("=", 1) for word in words)
    return open_source(name, **((STREETS if name == "synthetic" else {}) | options))
