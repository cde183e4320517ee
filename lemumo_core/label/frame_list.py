"""A list of frames as CSV, by what opened them, camera and stamp: what ``choose`` writes."""

from __future__ import annotations

import csv
from pathlib import Path

from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.truth_by_stamp import stamps_of
from lemumo_core.faults import Fault
from lemumo_core.label.frame_table import FrameTable

COLUMNS = ("data", "index", "camera_name", "stamp_ns")


def write_list(path: Path, frames: FrameTable) -> None:
    """Write the frames of a table, in its order."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows(
            zip(frames.data, frames.indices, frames.camera_names, frames.stamps_ns, strict=True)
        )


def listed_frames(path: Path, source: FrameSource) -> list[int]:
    """Return the indices of the frames of a source that a list names by camera and stamp.

    Frames of other logs in the list are passed over.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_list`` for a file without these columns; ``no_frames`` where no frame of the
            source is named.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        wanted = {(row["camera_name"], int(row["stamp_ns"])) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise Fault(
            "bad_list",
            f"{path} is no list of frames: it needs the columns {', '.join(COLUMNS[2:])}",
        ) from error
    stamps = {stamp_ns for _, stamp_ns in wanted}
    near = [i for i, stamp_ns in enumerate(stamps_of(source).tolist()) if stamp_ns in stamps]
    found = [i for i in near if (source[i].camera_name, source[i].stamp_ns) in wanted]
    if not found:
        raise Fault("no_frames", f"{path} names {len(wanted)} frames, none of them of this source")
    return found
