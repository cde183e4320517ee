"""Tables of a replay as Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault

FRAMES, TIMINGS = "frames.parquet", "timings.parquet"
Row = dict[str, Any]


def write_table(path: Path, rows: Sequence[Row], columns: dict[str, type]) -> None:
    """Write rows as Parquet; NaN becomes null.

    Args:
        path: file to create.
        rows: values by column.
        columns: columns of the file, with their type, which is str, int or float.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pa, parquet = _arrow()
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    arrays = {
        name: pa.array([row[name] for row in rows], types[column_type], from_pandas=True)
        for name, column_type in columns.items()
    }
    parquet.write_table(pa.table(arrays), path)


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table; null becomes None.

    Raises:
        Fault: ``no_results`` where there is none.
        ImportError: pyarrow is not installed.
    """
    _, parquet = _arrow()
    if not path.is_file():
        raise Fault("no_results", f"{path} is missing: is this the --out of lemumo replay?")
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return rows


def read_tables(out: Path, bags: Sequence[str], table: str) -> Iterator[Row]:
    """Yield the rows of one table of several bags of a replay."""
    for name in bags:
        yield from read_table(out / name / table)


def total_times_ms(folders: Sequence[Path]) -> list[float]:
    """Return how long each result of some bags took, all stages together."""
    rows = (row for folder in folders for row in read_table(folder / TIMINGS))
    return [sum(ms for name, ms in row.items() if name != "stamp_ns" and ms) for row in rows]


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"replay needs pyarrow: {install_line('bags')}") from error
    return pyarrow, parquet
