"""Replay bags: offline through the node's own callbacks, and judged; or live over DDS.

Offline needs no ROS, loses nothing and is deterministic: every image is processed, waits are
measured on the bag's clock, and two runs, with however many workers, write the same bytes. Bags
that are done are not done again: stop it, start it, and it goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.reader import BagReader
from lemumo_core.cli.make_bag import source_options
from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import check_rigid
from lemumo_core.replay.evaluator import SENSOR_TOPICS, Judge, Settings
from lemumo_core.replay.folder import Bag
from lemumo_core.replay.run import Replay, exit_code
from lemumo_core.replay.workers import Workers

EXIT_CODES = """exit codes:
  0  every image of every bag became a result
  1  an error: nothing was replayed
  2  no image became a result
  3  partial: images were dropped or could not be judged, or a bag is damaged, was not closed,
     or its clocks jump; what is lost is said, and the results hold the rest
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lemumo replay``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXIT_CODES
    parser.add_argument("bags", nargs="+", metavar="BAG", help="bag, file, or folder of bags")
    parser.add_argument("--model", help="model package (offline)")
    parser.add_argument("--out", type=Path, help="folder for results and report")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work")
    parser.add_argument("--overlays", action="store_true", help="write a picture of every result")
    parser.add_argument(
        "--results-bag", action="store_true", help="write bags with the results beside the inputs"
    )
    parser.add_argument(
        "--rerun", action="store_true", help="write recordings of both for the Rerun viewer"
    )
    parser.add_argument(
        "--no-evaluation",
        action="store_true",
        help="only perceive: a third of the time, without metrics and checks",
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--sync-tolerance-ms", type=float, default=60.0)
    parser.add_argument("--companion-deadline-ms", type=float, default=100.0)
    parser.add_argument(
        "--extrinsics", type=float, nargs=16, metavar="T", help="T_camera_companion by row"
    )
    for name in SENSOR_TOPICS:
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, metavar="TOPIC", help="where the bag leaves a choice")
    parser.add_argument(
        "--truth",
        nargs=2,
        metavar=("SOURCE", "PATH"),
        help="a data set whose labels belong to the bag's images by stamp, e.g. nuscenes DIR; "
        "by default the bag's own /ground_truth topics",
    )
    parser.add_argument(
        "--truth-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="OPTION=VALUE",
        help="options of that source, e.g. cameras=CAM_FRONT",
    )
    parser.add_argument("--live", action="store_true", help="publish over DDS with /clock instead")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of --live")


def run(args: argparse.Namespace) -> int:
    """``lemumo replay``. Returns one of ``EXIT_CODES``."""
    try:
        if args.live:
            return _play(args.bags, args.rate)
        if not args.model:
            raise Fault("bad_package", "offline replay needs --model PACKAGE (or use --live)")
        return _run_offline(args)
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo replay: {error}", file=sys.stderr)
        return 1


def settings_of(args: argparse.Namespace) -> Settings:
    """Settings from parsed arguments.

    Raises:
        Fault: ``bad_transform``, ``bad_option``.
    """
    extrinsics = None
    if args.extrinsics:
        extrinsics = check_rigid(np.reshape(args.extrinsics, (4, 4)), "--extrinsics")
    truth = None
    if args.truth:
        name, path = args.truth
        truth = name, source_options(name, path, args.truth_set)
    if args.workers < 1:
        raise Fault("bad_option", f"--workers {args.workers} must be 1 or more")
    return Settings(
        model=Path(args.model),
        backend=args.backend,
        score_threshold=args.score_threshold,
        sync_tolerance_ns=int(args.sync_tolerance_ms * 1e6),
        companion_deadline_ns=int(args.companion_deadline_ms * 1e6),
        extrinsics=extrinsics,
        topics={name: getattr(args, name) for name in SENSOR_TOPICS},
        truth=truth,
        evaluate=not args.no_evaluation,
        overlays=args.overlays,
    )


def _play(bags: list[str], rate: float) -> int:
    """Publish bags over DDS with the player of lemumo_ros, which registers it by entry point."""
    players = entry_points(group="lemumo.players", name="dds")
    if not players:
        raise ImportError(
            "--live needs the player of lemumo_ros, and this installation does not register one: "
            "install the package (pip install -e . in a clone)"
        )
    (player,) = players
    with BagReader(bags) as reader:
        status: int = player.load()(reader, rate)
    return status


def _run_offline(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    bags = named(find_bags(args.bags))
    judge = Judge(settings)
    started = time.monotonic()
    with _folder(args.out) as out, _source(settings, args.workers, judge) as source:
        wanted = {"bag": args.results_bag, "rerun": args.rerun}
        replay = Replay(judge, source, out, [name for name, is_on in wanted.items() if is_on])
        found = [replay.bag(bag) for bag in bags]
        replay.conclude(found, report=args.out is not None)
    seconds = time.monotonic() - started
    print(f"{replay.frames / seconds:.1f} frames/s")
    if args.out is not None:
        print(f"written: {out}/metrics.json, {out}/index.html")
    return exit_code(found)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def _source(settings: Settings, workers: int, judge: Judge) -> Iterator[Judge | Workers]:
    if workers == 1:
        yield judge
        return
    with Workers(settings, workers) as source:
        yield source


def named(found: list[tuple[Path, ...]]) -> list[Bag]:
    """Bags with names: those of folder or file, numbered where two are alike."""
    bags: list[Bag] = []
    taken: set[str] = set()
    for files in found:
        stem = files[0].name if files[0].is_dir() else files[0].stem
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        bags.append(Bag(name, files))
    return bags


def without_ros_arguments(arguments: list[str]) -> list[str]:
    """Drop what ``ros2 run`` and launch append: ``--ros-args`` and all after it."""
    if "--ros-args" in arguments:
        return arguments[: arguments.index("--ros-args")]
    return arguments


def main() -> None:
    """Entry point of the ``replay`` executable."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    add_arguments(parser)
    sys.exit(run(parser.parse_args(without_ros_arguments(sys.argv[1:]))))


if __name__ == "__main__":
    main()
