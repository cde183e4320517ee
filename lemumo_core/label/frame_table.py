"""Embeddings and doubts of the frames of logs, as Parquet: one row a frame, one file a log.

A file holds all that choosing frames and looking for similar ones needs, a small picture included,
so that the logs of a fleet can stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.arrow import pa
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole

SCORES = (
    *("detection_uncertainty", "segmentation_uncertainty", "depth_uncertainty"),
    *("detection_disagreement", "segmentation_disagreement", "depth_disagreement"),
)
"""Columns that grow with what a model may have to learn from a frame; NaN where unknown."""
METADATA = b"lemumo"
SUFFIX = ".parquet"


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Rows of N frames of one or more logs.

    Attributes:
        data: of each, what ``--data`` opened: a bag, shards or the name of a source.
        indices: int64 (N,) of the frames there.
        camera_names: of each.
        stamps_ns: int64 (N,).
        labelled: bool (N,), whether the frame has labels already.
        scores: float32 (N, 6), the columns of ``SCORES``.
        embeddings: float32 (N, D).
        pictures: of each a small JPEG, empty without an image.
    """

    data: tuple[str, ...]
    indices: np.ndarray
    camera_names: tuple[str, ...]
    stamps_ns: np.ndarray
    labelled: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray
    pictures: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows: Sequence[int]) -> FrameTable:
        """Return some of the rows."""
        at = list(rows)
        return FrameTable(
            data=tuple(self.data[row] for row in at),
            indices=self.indices[at],
            camera_names=tuple(self.camera_names[row] for row in at),
            stamps_ns=self.stamps_ns[at],
            labelled=self.labelled[at],
            scores=self.scores[at],
            embeddings=self.embeddings[at],
            pictures=tuple(self.pictures[row] for row in at),
        )


def write_table(table: FrameTable, path: Path, model: dict[str, Any]) -> None:
    """Write rows as a Parquet file, which appears whole.

    Args:
        table: the rows.
        path: of the file.
        model: what says which model the rows are of; tables of one search must share it.
    """
    import pyarrow.parquet as pq

    width = table.embeddings.shape[1]
    columns = {
        "data": pa.array(table.data, pa.string()),
        "index": pa.array(table.indices, pa.int64()),
        "camera_name": pa.array(table.camera_names, pa.string()),
        "stamp_ns": pa.array(table.stamps_ns, pa.int64()),
        "labelled": pa.array(table.labelled, pa.bool_()),
        **{
            name: pa.array(table.scores[:, i], pa.float32(), from_pandas=True)  # NaN is null
            for i, name in enumerate(SCORES)
        },
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(table.embeddings.ravel(), pa.float32()), width
        ),
        "picture": pa.array(table.pictures, pa.binary()),
    }
    metadata = {METADATA: json.dumps(model, sort_keys=True).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())


def read_tables(paths: Iterable[Path]) -> FrameTable:
    """Read the rows of files, and of all files of folders.

    Raises:
        FileNotFoundError: there is none.
        Fault: ``bad_table`` for a file that ``write_table`` did not write; ``other_model`` where
            they are of several models, whose embeddings do not compare.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise FileNotFoundError(
            f"there is no {SUFFIX} file: lemumo label embed DATA --model PACKAGE writes them"
        )
    tables, models = zip(*(_read(file) for file in files), strict=True)
    for file, model in zip(files, models, strict=True):
        if model != models[0]:
            raise Fault(
                "other_model",
                f"{file} is of another model than {files[0]}: embed both with one model",
            )
    return FrameTable(
        data=tuple(chain.from_iterable(one.data for one in tables)),
        indices=np.concatenate([one.indices for one in tables]),
        camera_names=tuple(chain.from_iterable(one.camera_names for one in tables)),
        stamps_ns=np.concatenate([one.stamps_ns for one in tables]),
        labelled=np.concatenate([one.labelled for one in tables]),
        scores=np.concatenate([one.scores for one in tables]),
        embeddings=np.concatenate([one.embeddings for one in tables]),
        pictures=tuple(chain.from_iterable(one.pictures for one in tables)),
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: lemumo label embed DATA --model PACKAGE --out {path} writes it"
        )
    return sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]


def _read(file: Path) -> tuple[FrameTable, str]:
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(file)
        embeddings = found["embedding"].combine_chunks()
        table = FrameTable(
            data=tuple(found["data"].to_pylist()),
            indices=found["index"].to_numpy(),
            camera_names=tuple(found["camera_name"].to_pylist()),
            stamps_ns=found["stamp_ns"].to_numpy(),
            labelled=found["labelled"].to_numpy(),
            scores=np.stack([found[name].to_numpy() for name in SCORES], axis=1),
            embeddings=embeddings.flatten().to_numpy().reshape(len(found), -1),
            pictures=tuple(found["picture"].to_pylist()),
        )
        return table, found.schema.metadata[METADATA].decode()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise Fault(
            "bad_table", f"{file} is no table of frames of lemumo label embed: {error}"
        ) from error
