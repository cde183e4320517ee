"""Pages with pictures of frames of a table: those chosen, and those like a given one."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from lemumo_core.label.frame_table import SCORES, FrameTable
from lemumo_core.web_page import figure, table, write_page

SHORT = {name: name.replace("_", " ").replace("segmentation", "labels") for name in SCORES}


def write_chosen(
    path: Path, frames: FrameTable, chosen: list[int], value: np.ndarray, count: int
) -> None:
    """Write a page of chosen frames, in the order in which they were chosen.

    Args:
        path: of the page.
        frames: all frames.
        chosen: rows.
        value: informativeness of all frames.
        count: of the frames that could be chosen.
    """
    rows = [
        (name, *(_mean(frames.scores[which, i]) for which in (slice(None), chosen)))
        for i, name in enumerate(SHORT.values())
    ]
    logs = len(set(frames.data))
    cameras = len(set(zip(frames.data, frames.camera_names, strict=True)))
    parts = [
        f"<p>{len(chosen)} of {count} unlabelled frames (logs: {logs}, cameras: {cameras}), the "
        "first chosen first. Each adds most of what the model is unsure of and of what no labelled "
        "or chosen frame looks like.</p>",
        table("Means of the model's own doubts", rows, ("", "all frames", "chosen")),
        _grid(frames, chosen, [f"informativeness {value[row]:.2f}" for row in chosen]),
    ]
    write_page(path, "Frames to label next", parts)


def write_similar(
    path: Path, frames: FrameTable, row: int, found: list[int], cosines: np.ndarray
) -> None:
    """Write a page of the frames most like one, best first.

    Args:
        path: of the page.
        frames: all frames.
        row: of the one.
        found: rows of the others.
        cosines: of all frames.
    """
    parts = [
        _grid(frames, [row], ["the frame looked for"]),
        f"<h2>The {len(found)} most like it, of {len(frames)} frames</h2>",
        _grid(frames, found, [f"cosine {cosines[other]:.3f}" for other in found]),
    ]
    write_page(path, "Similar frames", parts)


def _grid(frames: FrameTable, rows: list[int], words: list[str]) -> str:
    pictures = [
        figure(
            _data_url(frames.pictures[row]),
            f"{number}. {frames.data[row]} {frames.camera_names[row]} {frames.stamps_ns[row]}: "
            f"{word}",
        )
        for number, (row, word) in enumerate(zip(rows, words, strict=True), start=1)
    ]
    return f'<div class="grid">{"".join(pictures)}</div>'


def _data_url(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()


def _mean(values: np.ndarray) -> str | None:
    known = values[~np.isnan(values)]
    return f"{known.mean():.3f}" if len(known) else None
