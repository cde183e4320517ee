"""One parquet table of the Waymo Open Dataset v2, read forwards and by key.

Key columns are named ``key.NAME``, all others ``[COMPONENT].NAME``.

Format: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2/component.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import check_rigid

BATCH_BYTES = 4 << 20
"""Size of what is decoded at a time."""
TIMESTAMP, CAMERA, LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"

Row = dict[str, Any]


def require_pyarrow() -> tuple[Any, Any]:
    """Import ``pyarrow`` and ``pyarrow.parquet``; the error says how to install them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"reading Waymo needs pyarrow: {install_line('train')}") from error
    return pyarrow, pyarrow.parquet


class Table:
    """One open parquet file.

    A row can be reached only by decoding all before it in its row group, which in the public
    files is 50 frames long. So the table keeps its position: going forwards decodes each row once.

    Args:
        path: the file.
        component: name that its columns carry, e.g. ``LiDARComponent``.

    Raises:
        Fault: ``bad_table`` for a file that is cut off or not parquet; methods raise it for
            missing columns, rows and values too.
    """

    def __init__(self, path: Path, component: str):
        self.path, self.component = path, component
        self._names: tuple[str, ...] = ()  # columns of the batch
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = ()
        self._first = 0  # row of the batch
        self._indices: dict[tuple[str, ...], dict[tuple[int, ...], list[int]]] = {}
        with self._named():
            self.file = require_pyarrow()[1].ParquetFile(path, memory_map=True, pre_buffer=False)
        self.columns = set(self.file.schema_arrow.names)
        footer = self.file.metadata
        self.groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        self.starts = [0, *accumulate(group.num_rows for group in self.groups)]

    def index(self, *keys: str) -> dict[tuple[int, ...], list[int]]:
        """Return the numbers of the rows that have each value of key columns."""
        if keys not in self._indices:
            self._check(keys)
            with self._named():
                values = self.file.read(columns=list(keys), use_threads=False).to_pydict()
            index = defaultdict(list)
            for row, key in enumerate(zip(*(values[key] for key in keys), strict=True)):
                index[key].append(row)
            self._indices[keys] = dict(index)
        return self._indices[keys]

    def row(self, key: str, value: int, *columns: str) -> Row:
        """Return the one row of a key; see ``rows``."""
        rows = self.rows(key, value, *columns)
        if len(rows) != 1:
            raise Fault(
                "bad_table", f"{self.path} has {len(rows)} rows of {key} = {value}; expected one"
            )
        return rows[0]

    def rows(self, key: str, value: int, *columns: str) -> list[Row]:
        """Return all rows whose key column has this value.

        Args:
            key: name of the key column.
            value: of the key.
            columns: key columns, and others without the component's name.

        Returns:
            One dict a row, in the order of the file; lists are (read-only) arrays, or None.
        """
        names = tuple(
            column if column.startswith("key.") else f"[{self.component}].{column}"
            for column in columns
        )
        self._check(names)
        return [
            dict(zip(columns, self._values(row, names), strict=True))
            for row in self.index(key).get((value,), [])
        ]

    def _values(self, row: int, names: tuple[str, ...]) -> list[Any]:
        end = self._first + len(self._batch)
        if (
            names != self._names
            or row < self._first
            or self._group(row) > self._group(end)  # skips the rest of a row group
        ):
            self._start(self._group(row), names)
        with self._named():
            while row >= self._first + len(self._batch):
                self._first += len(self._batch)
                self._batch = next(self._batches)
            return [
                self._value(self._batch.column(name)[row - self._first], name) for name in names
            ]

    def _group(self, row: int) -> int:
        return bisect_right(self.starts, row) - 1

    def _start(self, group: int, names: tuple[str, ...]) -> None:
        """Go to the start of a row group."""
        rows, size = self.groups[group].num_rows, self.groups[group].total_byte_size
        self._names, self._batch, self._first = names, (), self.starts[group]
        self._batches = self.file.iter_batches(
            batch_size=max(1, BATCH_BYTES * rows // max(size, 1)),
            row_groups=range(group, len(self.groups)),
            columns=list(names),
            use_threads=False,
        )

    def _value(self, scalar: Any, name: str) -> Any:
        values = getattr(scalar, "values", None)  # of a list
        if values is not None:
            return values.to_numpy(zero_copy_only=False)
        if not scalar.is_valid and not require_pyarrow()[0].types.is_nested(scalar.type):
            raise Fault("bad_table", f"{self.path} has a row without {name}")
        return scalar.as_py()

    def _check(self, names: Iterable[str]) -> None:
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise Fault(
                "bad_table",
                f"{self.path} has no column {', '.join(missing)}; expected Waymo Open Dataset v2",
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn errors of pyarrow into Faults that name the file."""
        try:
            yield
        except (require_pyarrow()[0].ArrowException, OSError) as error:
            self._names = ()  # the position is lost
            raise Fault(
                "bad_table", f"{self.path} is not a whole parquet file; download it again: {error}"
            ) from None


def rigid(values: np.ndarray, table: Table) -> np.ndarray:
    """Convert a flat ``transform`` column to (4, 4); raise ``bad_transform`` if it is not rigid."""
    return check_rigid(values, f"a transform in {table.path}")


def decode_image(data: bytes, flags: int, camera: Camera, table: Table) -> np.ndarray:
    """Decode an image as large as the camera's: (H, W, 3) RGB, or (H, W) as stored.

    The flags ``IMREAD_UNCHANGED`` keep it as stored.
    """
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise Fault("bad_image", f"{table.path} holds an image that OpenCV cannot decode")
    expected = (camera.height, camera.width, 3)[: 2 if flags == cv2.IMREAD_UNCHANGED else 3]
    if image.shape != expected:
        raise Fault(
            "bad_image", f"{table.path} holds an image of shape {image.shape}; expected {expected}"
        )
    return image
