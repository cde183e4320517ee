"""Columns of Apache Feather files, read with pyarrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.extras import require
from lemumo_core.faults import Fault

Columns = dict[str, np.ndarray]


def require_pyarrow() -> None:
    """Raise ImportError with the line that installs pyarrow, where it is missing."""
    require("pyarrow", "Feather files need pyarrow")


def read_columns(path: Path, names: tuple[str, ...], layout: str) -> Columns:
    """Return columns of a Feather file (version 2) by name.

    Args:
        path: the file.
        names: of the columns.
        layout: of the data set, for the message where there is no file.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_table``, naming the file, where it is damaged or lacks a column.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(existing(path, layout))) as file:
            table = pa.ipc.open_file(file).read_all()
            return {name: table.column(name).to_numpy().copy() for name in names}
    except KeyError as error:
        raise Fault("bad_table", f"{path} has no column: {error.args[0]}") from None
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Fault("bad_table", f"{path} is damaged or no Feather file: {error}") from None
