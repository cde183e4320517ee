"""Write a source as a bag.

lemumo make-bag SOURCE [options of the source] --out BAG [--storage sqlite3] [--jpeg]
lemumo make-bag nuscenes --root /data/nuscenes --cameras CAM_FRONT --out out/bags/front
lemumo make-bag SOURCE --help
"""

from __future__ import annotations

from pathlib import Path

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli.source_options import help_without_source, parse_source
from lemumo_core.command_line import guarded
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.progress import track

PROG = "lemumo make-bag"


def make_bag(arguments: list[str]) -> None:
    """Write the bag that the arguments describe."""
    open_source, _, options = parse_source(PROG, arguments, write_bag)
    source = open_source()
    out = Path(options["out"])
    check_output(out)
    limit = options.pop("limit")
    count = len(source) if limit is None else min(len(source), limit)
    with disk_errors_named(out):
        write_bag((source[index] for index in track(range(count), "make-bag")), **options)
    print(f"written: {out}")


def main(arguments: list[str]) -> int:
    """Run ``lemumo make-bag``; return its exit code."""
    code = help_without_source(__doc__, arguments)
    return guarded(PROG, lambda: make_bag(arguments)) if code is None else code
