"""The command ``lemumo make-bag``: any source as a bag."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

import yaml

from lemumo_core.bags.writer import STORAGES, write_bag
from lemumo_core.data.sources.registry import SOURCES, open_source, source_class
from lemumo_core.faults import Fault


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``lemumo make-bag``."""
    parser.add_argument("source", metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("path", nargs="?", help="its folder, where it has one")
    parser.add_argument("--out", required=True, help="bag folder to create")
    parser.add_argument("--storage", choices=STORAGES, default="mcap")
    parser.add_argument("--jpeg", action="store_true", help="store images as JPEG")
    parser.add_argument("--frames", type=int, help="at most this many")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="OPTION=VALUE",
        help="options of the source, e.g. rate_hz=2, cameras=CAM_FRONT, seed=1",
    )


def run(args: argparse.Namespace) -> int:
    """Run ``lemumo make-bag`` with parsed options. Returns 0, or 1 on a fault."""
    try:
        source = open_source(args.source, **source_options(args.source, args.path, args.set))
        frames = (source[index] for index in range(len(source)))
        write_bag(frames, args.out, args.storage, args.jpeg, args.frames)
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo make-bag: {error}", file=sys.stderr)
        return 1
    return 0


def source_options(name: str, path: str | None, assignments: list[str]) -> dict[str, Any]:
    """Keyword arguments of a source.

    Args:
        name: of the source.
        path: becomes its option ``root`` or ``path``.
        assignments: ``OPTION=VALUE``; values are YAML.

    Raises:
        Fault: ``bad_option``; ``unknown_source``.
    """
    options = {}
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        if not equals:
            raise Fault("bad_option", f"--set {assignment}: must be OPTION=VALUE")
        try:
            options[option] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise Fault("bad_option", f"--set {assignment}: {error}") from error
    if path is not None:
        known = inspect.signature(source_class(name)).parameters
        folder = next((option for option in ("root", "path") if option in known), None)
        if folder is None:
            raise Fault("bad_option", f"{name} has no folder, but was given {path}")
        options[folder] = path
    return options
