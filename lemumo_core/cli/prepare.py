"""Write frames of a source as shards, or look at shards.

    lemumo prepare SOURCE [options of the source] --out DIR [--frames N] [--jpeg 90]
    lemumo prepare SOURCE --help
    lemumo prepare SOURCE ... --truth TRUTH           with the labels of lemumo label import
    lemumo prepare stats DIR [--classes FILE]

Stopped, even killed, the same command goes on where it was; the shards are the same bytes whatever
happened and however many workers wrote. Exit codes: 0 done, 1 an error, 85 stopped by a signal.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2

from lemumo_core.cli.source_options import help_without_source, parse_source
from lemumo_core.command_line import guarded, run_function
from lemumo_core.data.contact_sheet import contact_sheet
from lemumo_core.data.shard_writer import ShardsSummary, write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.truth_by_stamp import WithTruth
from lemumo_core.data.statistics import report, statistics
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named, write_whole
from lemumo_core.signals import REQUEUE, Stopped
from lemumo_core.taxonomy import read_classes

PROG = "lemumo prepare"


def prepare(arguments: list[str]) -> int:
    """Write the shards that the arguments describe; return the exit code."""
    try:
        return _prepare(arguments)
    except Stopped as stopped:
        print(f"{PROG}: {stopped}; the same command goes on", file=sys.stderr)
        return REQUEUE


def _prepare(arguments: list[str]) -> int:
    source, options = parse_source(PROG, arguments, write_labelled_shards)
    summary = write_labelled_shards(source, **options)
    print(describe(summary, Path(options["out"])))
    return 0


def write_labelled_shards(
    source: FrameSource,
    truth: str | None = None,
    truth_options: SourceOptions | None = None,
    truth_tolerance_ms: float = 1.0,
    **options: Any,
) -> ShardsSummary:
    """Write a source as shards, perhaps with the labels of another one.

    Args:
        source: what to write.
        truth: labels that belong to the frames by stamp: the folder that lemumo label import wrote,
            or other shards, or the name of a source. Frames that it does not label have none.
        truth_options: of that source.
        truth_tolerance_ms: farthest that a stamp of the truth may lie from that of its frame.
        options: of ``write_shards``.

    Raises:
        Fault, OSError, ImportError: as ``write_shards`` and ``WithTruth``.
    """
    if truth is not None:
        tolerance_ns = round(truth_tolerance_ms * 1e6)
        source = WithTruth(source, truth, truth_options or {}, tolerance_ns)
    return write_shards(source, **options)


def describe(summary: ShardsSummary, out: Path) -> str:
    """Return what was written, as lines of text."""
    rate = summary.new_frames / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.frames} frames in {summary.shards} shards, {summary.size_bytes / 1e9:.3f} GB "
        f"({summary.size_bytes / summary.frames / 1e6:.2f} MB a frame), in {out}",
        f"{summary.new_frames} of them written now, {rate:.1f} frames/s"
        if summary.new_frames
        else "all of them were there already",
    ]
    if summary.dropped:
        lines.append(f"{summary.dropped} frames of the source were left out, see the warnings")
    lines.append(f"look at them:   lemumo prepare stats {shlex.quote(str(out))}")
    lines.append(f"train on them:  lemumo pretrain --data {shlex.quote(str(out))}")
    return "\n".join(lines)


def stats(
    root: str, *, out: Path | None = None, tiles: int = 24, classes: str | None = None
) -> None:
    """Print what shards hold; write it, and a picture, beside them.

    Args:
        root: folder of shards, or its URI.
        out: folder for stats.json and contact_sheet.png; by default the shards' own.
        tiles: frames in the picture.
        classes: class file of the model to train, or the name of a shipped one: which labels it
            does not know.

    Raises:
        Fault: ``missing_option`` without ``out`` where the shards are remote.
    """
    if out is not None:
        check_output(out)
    source = Shards(root)
    if out is None:
        if source.remote is not None:
            raise Fault("missing_option", f"{root} is remote: say where to write with --out")
        out = Path(root)
        check_output(out)
    found = statistics(source, None if classes is None else read_classes(classes))
    print(report(found))
    _, picture = cv2.imencode(".png", contact_sheet(source, tiles)[..., ::-1])
    with disk_errors_named(out):
        write_whole(out / "stats.json", (json.dumps(found, indent=1) + "\n").encode())
        write_whole(out / "contact_sheet.png", picture.data)
    print(f"written: {out}/stats.json, {out}/contact_sheet.png")


def main(arguments: list[str]) -> int:
    """Run ``lemumo prepare``; return its exit code."""
    if arguments[:1] == ["stats"]:
        return run_function(f"{PROG} stats", stats, arguments[1:])
    code = help_without_source(__doc__, arguments)
    return guarded(PROG, lambda: prepare(arguments)) if code is None else code
