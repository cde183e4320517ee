"""The folder of a replay. All but the times and the page is the same, to the byte, in every run.

metrics.json          figures of all bags by mode, and of each bag what came of it and the checks
index.html            the report (``replay_report``)
BAG/frames.parquet    a row for every image, columns of ``replay_record.COLUMNS``
BAG/detections.jsonl  a line for every result
BAG/overlays/*.png    where asked for
BAG/results/          a bag with the results beside the inputs, where asked for
BAG/timings.parquet   milliseconds by stage of every result
BAG/metrics.npz       what metrics.json was added up from
BAG/bag.json          what came of the bag; written last: with it the bag is done
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.metric_file import load_metrics, save_metrics
from lemumo_core.metrics.perception import PerceptionMetric, json_ready
from lemumo_core.replay.evaluator import Result, Settings
from lemumo_core.replay.record import COLUMNS, BagRecord
from lemumo_core.replay.rerun_recording import RerunRecording
from lemumo_core.replay.result_bag import ResultBag

DONE = "bag.json"
FORMAT = 2
"""Of these files. What was written in another one is not taken for done."""
RECORDINGS: dict[str, tuple[str, Callable[..., ResultBag | RerunRecording]]] = {
    "bag": ("results", ResultBag),
    "rerun": ("results.rrd", RerunRecording),
}
"""Where results lie beside the inputs: their place in the folder of a bag, and who writes them."""


@dataclass(frozen=True)
class Bag:
    """One of the bags of a replay: its name, unique among them, and what to open."""

    name: str
    files: tuple[Path, ...]


class BagFolder:
    """The results of one bag, as they come. A context manager; with an error it leaves no bag.json.

    Args:
        folder: is emptied.
        files: what is replayed.
        manifest, settings: of the model and the task.
        recordings: keys of ``RECORDINGS``, to be written.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        manifest: Manifest,
        settings: Settings,
        recordings: Sequence[str],
    ):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder, self._manifest = folder, manifest
        if settings.overlays:
            (folder / "overlays").mkdir()
        self._stack = ExitStack()
        self._lines = self._stack.enter_context((folder / "detections.jsonl").open("w"))
        self._recordings: list[ResultBag | RerunRecording] = []
        for path, kind in (RECORDINGS[name] for name in recordings):
            self._recordings.append(kind(folder / path, files, manifest, settings))
            self._stack.enter_context(self._recordings[-1])

    def __enter__(self) -> BagFolder:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, result: Result) -> None:
        """Add one image; a dropped one leaves nothing but its row."""
        perception = result.perception
        if perception is None:
            return
        found, names = perception.detections, self._manifest.detection_classes
        boxes_3d = found.boxes_3d.tolist() or [None] * len(found.scores)  # of a 2D model
        record = {
            "stamp_ns": perception.stamp_ns,
            "modalities": perception.modalities,
            "detections": [
                {"class": names[class_id], "score": score, "box_3d": box_3d, "box_2d": box_2d}
                for class_id, score, box_3d, box_2d in zip(
                    *(found.class_ids.tolist(), found.scores.tolist()),
                    *(boxes_3d, found.boxes_2d.tolist()),
                    strict=True,
                )
            ],
        }
        self._lines.write(json.dumps(record) + "\n")
        if result.overlay is not None:
            (self._folder / "overlays" / f"{perception.stamp_ns}.png").write_bytes(result.overlay)
        for recording in self._recordings:
            recording.write(result.instant, perception, result.overlay)

    def finish(self, record: BagRecord, about: dict[str, Any]) -> None:
        """Write the tables, and then ``bag.json``."""
        self._stack.close()
        write_table(self._folder / "frames.parquet", record.rows, COLUMNS)
        stages = dict.fromkeys(record.timings[0], float) if record.timings else {}
        write_table(self._folder / "timings.parquet", record.timings, stages | {"stamp_ns": int})
        save_metrics(self._folder / "metrics.npz", record.metrics)
        text = json.dumps(json_ready(about), indent=1, allow_nan=False)
        write_whole(self._folder / DONE, f"{text}\n".encode())


def done_already(folder: Path, key: str) -> dict[str, Any] | None:
    """What came of a bag that was replayed with the same key, None if it was not."""
    try:
        about = json.loads((folder / DONE).read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and about.get("key") == key else None


def bag_key(bag: Bag, manifest: Manifest, settings: Settings, recordings: Sequence[str]) -> str:
    """Changes with anything that the results of a bag depend on."""
    parts = [
        (str(part), part.stat().st_size, part.stat().st_mtime_ns)
        for file in bag.files
        for part in (sorted(file.iterdir()) if file.is_dir() else [file])
    ]
    settings_text = json.dumps(asdict(settings), default=str, sort_keys=True)
    depends = [FORMAT, parts, manifest.files, settings_text, list(recordings)]
    text = json.dumps(depends, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_metrics(out: Path, about: dict[str, Any], bags: dict[str, dict[str, Any]]) -> None:
    """Write ``metrics.json``: about the run, and what came of each bag."""
    document = json_ready({**about, "bags": bags})
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(out / "metrics.json", f"{text}\n".encode())


def added_metrics(folders: Sequence[Path], empty: PerceptionMetric) -> dict[str, PerceptionMetric]:
    """The metrics of all bags together, by mode."""
    total: dict[str, PerceptionMetric] = {}
    for folder in folders:
        for mode, metric in load_metrics(folder / "metrics.npz", empty).items():
            if mode in total:
                total[mode].merge(metric)
            else:
                total[mode] = metric
    return total


def write_table(path: Path, rows: Sequence[dict[str, Any]], columns: dict[str, type]) -> None:
    """Rows as Parquet; NaN becomes null.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pa, parquet = _arrow()
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    arrays = {
        name: pa.array([row[name] for row in rows], kinds[kind], from_pandas=True)
        for name, kind in columns.items()
    }
    parquet.write_table(pa.table(arrays), path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table; null is None.

    Raises:
        Fault: ``no_results`` where there is none.
    """
    _, parquet = _arrow()
    if not path.is_file():
        raise Fault("no_results", f"{path} is missing: is this the --out of lemumo replay?")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def rows_of(out: Path, bags: Sequence[str], table: str) -> Iterator[dict[str, Any]]:
    """Rows of all bags of a replay."""
    for name in bags:
        yield from read_rows(out / name / table)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError('replay needs pyarrow: pip install "lemumo_ros[bags]"') from error
    return pyarrow, parquet
