"""List training runs, or compare some: the options that differ, and figures side by side.

    lemumo runs                        all runs below out
    lemumo runs out/pretrain /data/runs
    lemumo runs --compare out/a out/b out/c

Each run has a page, run.html, that shows its curves while it trains.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.evaluation.tables import as_text
from lemumo_core.faults import Fault
from lemumo_core.train.run_list import compared, find_runs, listed, read_run

DEFAULT = "out"
"""Folder below which runs are looked for where none is named."""


def runs(folders: list[Path], *, compare: bool = False) -> None:
    """List or compare training runs.

    Args:
        folders: folders of runs, or that hold some at any depth; by default ``out``.
        compare: compare the runs instead of listing them.

    Raises:
        Fault: ``no_runs`` where there are none, or fewer than two to compare; ``bad_run`` for one
            to compare whose files are damaged. Of a list it is left out, and named.
    """
    found = [run for folder in folders for run in find_runs(folder)]
    shown = ", ".join(map(str, folders))
    if not found:
        raise Fault("no_runs", f"{shown}: no run of lemumo pretrain, finetune or adapt is there")
    if compare and len(found) < 2:
        raise Fault("no_runs", f"{shown}: one run alone is there: name two or more to compare")
    read = []
    for run in found:
        try:
            read.append(read_run(run))
        except Fault as fault:
            if compare or len(found) == 1:
                raise
            print(f"lemumo runs: {fault}", file=sys.stderr)
    tables = compared(read) if compare else [listed(read)]
    print("\n\n".join(as_text(table) for table in tables))


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo runs``; return its exit code."""
    named = [word for word in arguments if word in ("-h", "--help") or not word.startswith("-")]
    words = arguments if named else [*arguments, DEFAULT]
    return run_function("lemumo runs", runs, words, __doc__)
