"""Write a source of Frames as shards, or look at shards.

    python training/prepare.py SOURCE [options of the source] --out DIR [--frames N] [--jpeg 90]
    python training/prepare.py SOURCE --help
    python training/prepare.py stats DIR

Sources: those of lemumo_core/data/sources/registry.py. Stopped, even killed, the same command goes
on where it was; the shards are the same bytes whatever happened and however many workers wrote.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import cv2

from lemumo_core.command_line import CommandLine
from lemumo_core.data.contact_sheet import contact_sheet
from lemumo_core.data.shard_writer import Summary, write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.registry import SOURCES, source_class
from lemumo_core.data.statistics import report, statistics
from lemumo_core.faults import Fault


def prepare(name: str, arguments: list[str]) -> None:
    """Write shards of the source of that name."""
    cls = source_class(name)
    own = inspect.signature(cls).parameters.keys()
    parser = CommandLine(prog=f"prepare.py {name}")
    parser.add_class_arguments(cls)
    # A source that makes as many frames as it is asked for takes --frames itself.
    taken: set[str | int] = {"source", *({"frames"} & own)}
    written = parser.add_function_arguments(write_shards, skip=taken)
    options = parser.parse_args(arguments).as_dict()
    source = cls(**{option: options[option] for option in own})
    out = Path(options["out"])
    summary = write_shards(source, **{option: options[option] for option in written})
    print(describe(summary, out))


def describe(summary: Summary, out: Path) -> str:
    """What was done, for people."""
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
    lines.append(f"look at them:   python training/prepare.py stats {out}")
    lines.append(f"train on them:  python training/pretrain.py --data {out}")
    return "\n".join(lines)


def stats(arguments: list[str]) -> None:
    """Print what shards hold; write it, and a picture, beside them."""
    parser = CommandLine(prog="prepare.py stats")
    parser.add_argument("root", help="folder of shards, or its URI")
    parser.add_argument("--out", type=Path, help="folder for stats.json and contact_sheet.png")
    parser.add_argument("--tiles", type=int, default=24, help="frames in the picture")
    options = parser.parse_args(arguments)
    source = Shards(options.root)
    if options.out is None and source.remote is not None:
        raise Fault("missing_option", f"{options.root} is remote: say where to write with --out")
    out = options.out or Path(options.root)
    out.mkdir(parents=True, exist_ok=True)
    found = statistics(source)
    (out / "stats.json").write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    picture = contact_sheet(source, options.tiles)
    cv2.imwrite(str(out / "contact_sheet.png"), picture[..., ::-1])
    print(f"written: {out}/stats.json, {out}/contact_sheet.png")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\nSOURCE is one of: {', '.join(SOURCES)}")
        return 0 if arguments else 2
    command, *rest = arguments
    try:
        if command == "stats":
            stats(rest)
        else:
            prepare(command, rest)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished shards stay, the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
