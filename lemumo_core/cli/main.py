"""The command ``lemumo``: replay, compare, make-bag, bench, inspect, sign, verify."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lemumo_core.bags.reader import BagReader
from lemumo_core.cli import bench, make_bag, replay
from lemumo_core.faults import Fault
from lemumo_core.inference.package import MANIFEST_NAME, load_package, read_manifest
from lemumo_core.inference.signature import sign
from lemumo_core.replay import compare


def inspect(args: argparse.Namespace) -> int:
    """Print what a model package or a bag holds."""
    path = Path(args.path)
    try:
        if (path / MANIFEST_NAME).exists():
            manifest = load_package(path).manifest
            for key, value in vars(manifest).items():
                print(f"{key:22} {value}")
            return 0
        with BagReader(path) as reader:
            seconds = (reader.end_ns - reader.start_ns) / 1e9
            print(f"{path}: {seconds:.1f} s")
            for topic in reader.topics:
                print(f"  {topic.name:40} {topic.type:40} {topic.count:6}  {topic.frame_id}")
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo inspect: {error}", file=sys.stderr)
        return 1
    return 0


def sign_package(args: argparse.Namespace) -> int:
    """Sign a model package that is whole."""
    try:
        manifest = read_manifest(args.package)
        load_package(args.package)
        sign(args.package, manifest, args.key)
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo sign: {error}", file=sys.stderr)
        return 1
    return 0


def verify(args: argparse.Namespace) -> int:
    """Say whether a model package is whole, and signed where a key is given."""
    try:
        manifest = load_package(args.package, args.key).manifest
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo verify: {error}", file=sys.stderr)
        return 1
    signed = f", signed for {args.key}" if args.key else ""
    print(f"{args.package}: {manifest.name} {manifest.version} is whole{signed}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="lemumo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("replay", help="run a model over bags, or publish them")
    replay.add_arguments(command)
    command.set_defaults(run=replay.run)
    command = commands.add_parser("compare", help="two replays of the same bags side by side")
    compare.add_arguments(command)
    command.set_defaults(run=compare.run)
    command = commands.add_parser("make-bag", help="write a bag from a data set")
    make_bag.add_arguments(command)
    command.set_defaults(run=make_bag.run)
    command = commands.add_parser("bench", help="how fast a model package runs on this machine")
    bench.add_arguments(command)
    command.set_defaults(run=bench.run)
    command = commands.add_parser("inspect", help="what a model package or a bag holds")
    command.add_argument("path", help="package or bag")
    command.set_defaults(run=inspect)
    for function, name, text, key in (
        (sign_package, "sign", "sign a model package with an ed25519 key", "private"),
        (verify, "verify", "whether a model package is whole and signed", "public"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("package", type=Path)
        command.add_argument(
            "--key", type=Path, required=name == "sign", help=f"{key} key, a PEM file"
        )
        command.set_defaults(run=function)
    args = parser.parse_args(arguments)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
