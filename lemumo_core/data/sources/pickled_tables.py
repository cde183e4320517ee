"""Columns of tables that pandas pickled, read without running what else a pickle may hold.

A pickle is a program. This one may call what rebuilds a table of numbers and words, and nothing
else: any other name in it is refused before it is imported.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

from lemumo_core.data.sources.feather import Columns
from lemumo_core.data.sources.files import existing
from lemumo_core.extras import require
from lemumo_core.faults import Fault

ALLOWED = {
    "builtins": {"slice"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct"},
    "numpy._core.multiarray": {"_reconstruct"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "pandas": {"DataFrame", "Index", "RangeIndex"},  # as pandas 3 writes them
    "pandas._libs.internals": {"_unpickle_block"},
    "pandas.core.frame": {"DataFrame"},
    "pandas.core.indexes.base": {"Index", "_new_Index"},
    "pandas.core.indexes.numeric": {"Float64Index", "Int64Index", "UInt64Index"},
    "pandas.core.indexes.range": {"RangeIndex"},
    "pandas.core.internals.blocks": {"new_block"},
    "pandas.core.internals.managers": {"BlockManager"},
}
"""Names that such a pickle may use, by module, of pandas from 1.0 on. Not numpy's ``scalar``, which
may unpickle on its own."""


def require_pandas() -> None:
    """Raise ImportError with the line that installs pandas, where it is missing."""
    require("pandas", "PandaSet's tables need pandas")


def read_pickled_columns(path: Path, names: tuple[str, ...], layout: str) -> Columns:
    """Return columns of a table in a file ``.pkl.gz`` by name.

    Args:
        path: the file.
        names: of the columns.
        layout: of the data set, for the message where there is no file.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_table``, naming the file: where it is damaged, holds anything but a table of
            numbers and words, or lacks a column.
    """
    try:
        table = _unpickle(gzip.decompress(existing(path, layout).read_bytes()))
    except _Refused as refused:
        raise Fault("bad_table", f"{path} is no plain table: {refused}; it was not run") from None
    except Exception as error:  # what a damaged pickle raises is without end
        raise Fault("bad_table", f"{path} is damaged or no table of pandas: {error}") from None
    columns = list(getattr(table, "columns", ()))
    if missing := [name for name in names if name not in columns]:
        held = ", ".join(map(str, columns)) or f"a {type(table).__name__}"
        raise Fault("bad_table", f"{path} has no column {missing[0]}; it holds {held}")
    return {name: table[name].to_numpy().copy() for name in names}


class _Refused(Exception):
    """A pickle uses a name that it may not."""


def _unpickle(data: bytes) -> Any:
    """Return what a pickle of pandas holds."""
    from pandas.compat.pickle_compat import Unpickler

    class TableUnpickler(Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name not in ALLOWED.get(module, ()):
                raise _Refused(f"it uses {module}.{name}")
            return super().find_class(module, name)

    return TableUnpickler(io.BytesIO(data)).load()
