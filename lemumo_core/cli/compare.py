"""Compare two replays of the same bags, image by image.

    lemumo compare REPLAY_A REPLAY_B --out out/comparison

Confidence intervals are those of a bootstrap over blocks of consecutive images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.evaluation.tables import as_text
from lemumo_core.faults import Fault
from lemumo_core.files import check_output
from lemumo_core.replay.compare import compare
from lemumo_core.replay.compare_page import comparison_tables, write_comparison


def compare_replays(a: Path, b: Path, *, out: Path | None = None, overwrite: bool = False) -> None:
    """Compare two replays.

    Args:
        a: folder that ``lemumo replay --out`` wrote.
        b: folder of another replay of the same bags.
        out: folder for compare.json and index.html.
        overwrite: replace an earlier comparison in ``out``.

    Raises:
        Fault: as ``check_output`` and ``compare``.
    """
    if out is not None:
        check_output(out, "compare.json", overwrite)
        if (out / "metrics.json").exists():
            raise Fault(
                "bad_output",
                f"--out {out} holds a replay or an evaluation, whose page the comparison would "
                "replace: take another folder",
            )
    found = compare(a, b)
    shown = comparison_tables(a, b, found.paired)
    print("\n\n".join(as_text(table) for table in shown))
    if out is not None:
        write_comparison(out, a, b, found)
        print(f"written: {out}/compare.json, {out}/index.html")


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo compare``; return its exit code."""
    return run_function("lemumo compare", compare_replays, arguments, __doc__)
