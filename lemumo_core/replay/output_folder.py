"""The output folder of a replay. All files but times and report are equal in every run.

(With a limit on time among the requirements, so is metrics.json but for it.)

metrics.json          metrics of all bags by modality, and a summary of each bag with its checks
index.html            the report (``replay.report``)
BAG/frames.parquet    a row for every image, columns of ``replay.record.COLUMNS``
BAG/detections.jsonl  a line for every result
BAG/overlays/*.png    pictures of the results, on request
BAG/timings.parquet   milliseconds by stage of every result
BAG/metrics.npz       metrics of the bag, from which metrics.json is merged, by modality and
                      whether the images were compared
BAG/tracking.npz      those of its tracks, where objects are tracked
BAG/results/          a bag with the results beside the inputs, on request
BAG/results.rrd       a recording of both for the Rerun viewer, on request
BAG/bag.json          summary of the bag, which marks a finished one

Where several cameras are taken, those from frames.parquet to tracking.npz are in BAG/CAMERA/.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lemumo_core.bags.named_bags import Bag
from lemumo_core.faults import Fault, differences, indented
from lemumo_core.files import write_whole
from lemumo_core.folders.folder import Folder
from lemumo_core.inference.manifest import Manifest
from lemumo_core.messages.calibration_file import CalibrationInfo
from lemumo_core.messages.tracks import track_names
from lemumo_core.metrics.metric_file import load_metrics, save_metrics
from lemumo_core.metrics.perception import PerceptionMetric, json_ready
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.replay.record import COLUMNS, BagRecord
from lemumo_core.replay.rerun_recording import RerunRecording
from lemumo_core.replay.result_bag import ResultBag
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.tables import FRAMES, TIMINGS, write_table
from lemumo_core.replay.tracks import TRACKS, BagTracks, save_tracks

DONE = "bag.json"
DETECTIONS = "detections.jsonl"
METRICS = "metrics.npz"
FORMAT = 12
"""Version of these files. A folder of another version does not count as finished."""
RECORDINGS: dict[str, tuple[str, Callable[..., ResultBag | RerunRecording]]] = {
    "bag": ("results", ResultBag),
    "rerun": ("results.rrd", RerunRecording),
}
"""Recordings of results beside the inputs: their path in the folder of a bag, and their writer."""


class BagOutput:
    """Writes the results of one bag, whose folder appears when they are finished and whole.

    A context manager; after an error, or where they were not finished, nothing has changed.

    Args:
        folder: folder of the bag, which is replaced; see ``check_folder``.
        files: files of the bag.
        manifest: manifest of the model.
        settings: options of the replay.
        recordings: keys of ``RECORDINGS`` to write.
    """

    def __init__(
        self,
        folder: Folder,
        files: Sequence[Path],
        manifest: Manifest,
        settings: Settings,
        recordings: Sequence[str],
    ):
        self._place, self._files, self._manifest = folder, files, manifest
        self._settings, self._names = settings, recordings
        self._recordings: list[ResultBag | RerunRecording] = []
        self._lines: dict[str, TextIO] = {}

    def __enter__(self) -> BagOutput:
        self._folder, self._stack = self._place.begin(), ExitStack()
        try:
            for path, kind in (RECORDINGS[name] for name in self._names):
                recording = kind(self._folder / path, self._files, self._manifest, self._settings)
                self._stack.enter_context(recording)
                self._recordings.append(recording)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._stack.__exit__(*error)
        finally:
            shutil.rmtree(self._folder.parent, ignore_errors=True)

    def begin(self, camera: str) -> None:
        """Make the folder of a camera; the name is empty where there is one."""
        folder = self._folder / camera
        folder.mkdir(exist_ok=True)
        if self._settings.overlays:
            (folder / "overlays").mkdir()
        self._lines[camera] = self._stack.enter_context((folder / DETECTIONS).open("w"))

    def write(self, result: ImageResult) -> None:
        """Add the result of one image; a dropped image has nothing but its row."""
        perception, camera = result.perception, result.event.camera
        if perception is None:
            return
        found, names = perception.detections, self._manifest.detection_classes
        boxes_3d = found.boxes_3d.tolist() or [None] * len(found.scores)  # none of a 2D model
        detections: list[dict[str, Any]] = [
            {"class": names[class_id], "score": score, "box_3d": box_3d, "box_2d": box_2d}
            for class_id, score, box_3d, box_2d in zip(
                *(found.class_ids.tolist(), found.scores.tolist()),
                *(boxes_3d, found.boxes_2d.tolist()),
                strict=True,
            )
        ]
        if (tracks := perception.tracks) is not None:
            for one, name, velocity in zip(
                detections, track_names(tracks), tracks.velocities.tolist(), strict=True
            ):
                one |= {"track": name or None, "velocity_mps": velocity if name else None}
        record = {
            "stamp_ns": perception.stamp_ns,
            "modalities": perception.modalities,
            "detections": detections,
        }
        self._lines[camera].write(json.dumps(record) + "\n")
        if result.overlay is not None:
            picture = self._folder / camera / "overlays" / f"{perception.stamp_ns}.png"
            picture.write_bytes(result.overlay)
        for recording in self._recordings:
            recording.write(result, perception)

    def finish(
        self, records: dict[str, BagRecord], summary: dict[str, Any], tracks: BagTracks | None
    ) -> None:
        """Write tables, metrics and summary, and put the folder in its place.

        Args:
            records: by camera.
            summary: of the bag.
            tracks: of its objects, where they are tracked.
        """
        self._stack.close()
        for camera, record in records.items():
            folder = self._folder / camera
            write_table(folder / FRAMES, record.rows, COLUMNS)
            stages = dict.fromkeys(record.timings[0], float) if record.timings else {}
            write_table(folder / TIMINGS, record.timings, stages | {"stamp_ns": int})
            save_metrics(folder / METRICS, record.metrics)
            if tracks is not None:
                save_tracks(folder / TRACKS, tracks.of(camera).metrics)
        text = json.dumps(json_ready(summary), indent=1, allow_nan=False)
        write_whole(self._folder / DONE, f"{text}\n".encode())
        self._place.put(self._folder, DONE)


def finished_summary(folder: Folder, key: dict[str, Any]) -> dict[str, Any] | None:
    """Return the summary of a bag that was replayed with the same key, else None."""
    summary = _read_summary(folder)
    return summary if summary is not None and summary.get("key") == key else None


def check_folder(folder: Folder, key: dict[str, Any], overwrite: bool) -> None:
    """Check that the folder of a bag may be emptied, where the bag is not finished.

    Args:
        folder: folder of the bag's results, which need not exist.
        key: what the results depend on, as ``bag_key`` returns it.
        overwrite: whether results of another key may be deleted.

    Raises:
        Fault: ``not_results`` where something else lies there, perhaps the bag itself, which is
            never deleted; ``output_exists`` for results of another model, bag or settings, with
            what differs.
    """
    there = folder.names()
    if not there:
        return
    summary = _read_summary(folder)
    if summary is None and there.isdisjoint((DONE, DETECTIONS)):
        raise Fault(
            "not_results",
            f"{folder} holds other files than the results of a replay, which would be deleted: "
            "take another --out",
        )
    if summary is None or overwrite or summary.get("key") == key:
        return
    earlier = summary.get("key")
    if not isinstance(earlier, dict) or earlier.get("format") != FORMAT:
        different = ["they were written by another version of lemumo"]
    else:
        different = differences(earlier, key)
    raise Fault(
        "output_exists",
        f"{folder} holds other results:{indented(different)}"
        "take another --out, or add --overwrite to delete them",
    )


def _read_summary(folder: Folder) -> dict[str, Any] | None:
    summary = folder.read_json(DONE)
    return summary if isinstance(summary, dict) else None


def bag_key(
    bag: Bag, manifest: Manifest, settings: Settings, recordings: Sequence[str]
) -> dict[str, Any]:
    """Return all that the results of a bag depend on, as JSON values."""
    key = {
        "format": FORMAT,
        **asdict(settings),
        "model": f"{manifest.name} {manifest.version} ({_digest(manifest.files)})",
        "bag": bag.fingerprint(),
        "recordings": list(recordings),
    }
    if settings.points_model is not None:
        run = settings.points_model
        files = [(str(one), one.stat().st_mtime_ns) for one in sorted(run.iterdir())]
        key["points_model"] = f"{run} ({_digest(files)})"
    if settings.calibration is not None:
        key["calibration"] = settings.camera_options().camera_info
    values: dict[str, Any] = json.loads(json.dumps(key, default=_plain_value))
    return values


def _plain_value(value: Any) -> Any:
    if isinstance(value, CalibrationInfo):
        return asdict(value)
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _digest(values: Any) -> str:
    """Return the first digits of a hash of JSON values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_metrics(out: Path, totals: dict[str, Any], bags: dict[str, dict[str, Any]]) -> None:
    """Write ``metrics.json``: values of the whole run, and the summary of each bag."""
    document = json_ready({**totals, "bags": bags})
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(out / "metrics.json", f"{text}\n".encode())


def read_metrics(out: Path) -> dict[str, Any]:
    """Return ``metrics.json`` of a replay.

    Raises:
        Fault: ``no_results`` where there is none.
    """
    path = out / "metrics.json"
    if not path.is_file():
        raise Fault("no_results", f"{path} is missing: is this the --out of lemumo replay?")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def merge_metrics(folders: Sequence[Path], empty: PerceptionMetric) -> dict[str, PerceptionMetric]:
    """Return the metrics of all bags together, by modality; ``empty`` gives their classes."""
    total: dict[str, PerceptionMetric] = {}
    for folder in folders:
        for modality, metric in load_metrics(folder / METRICS, empty).items():
            if modality in total:
                total[modality].merge(metric)
            else:
                total[modality] = metric
    return total
