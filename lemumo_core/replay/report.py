"""The report of a replay: one page that needs nothing but itself."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.bags.recovery import sound_files
from lemumo_core.evaluation.modalities import FrameScores, rank_frames
from lemumo_core.evaluation.tables import Results, reasons, tables
from lemumo_core.faults import Fault
from lemumo_core.metrics.masked_returns import MASK_EVERY
from lemumo_core.metrics.perception import Summary
from lemumo_core.plots import histogram, lines, strip
from lemumo_core.replay.evaluator import JUDGED_MODES, Judge
from lemumo_core.replay.folder import read_rows
from lemumo_core.replay.record import FIGURES, OK, WARN

WORST = 6
FUSED, ALONE, DROPPED = "#3a8a4d", "#e0a526", "#c2182b"
BADGES = {OK: FUSED, WARN: DROPPED}
Row = dict[str, Any]


def write_report(
    out: Path,
    about: Mapping[str, Any],
    results: Results,
    bags: Mapping[str, Mapping[str, Any]],
    judge: Judge,
) -> None:
    """Write ``index.html``.

    Args:
        out: folder of the replay.
        about: facts of the run.
        results: figures by mode.
        bags: what came of each.
        judge: sees the worst frames once more, to draw them.
    """
    read = {name: bag for name, bag in bags.items() if "error" not in bag}
    frames = {name: read_rows(out / name / "frames.parquet") for name in read}
    timings = [row for name in read for row in read_rows(out / name / "timings.parquet")]
    parts = []
    if not judge.manifest.trained:
        parts.append('<p class="warning">The weights are <b>untrained</b>: figures near zero.</p>')
    facts = {key: value for key, value in about.items() if not isinstance(value, dict)}
    facts["bags"] = len(bags)
    if any(bag["depth_held_out"] for bag in read.values()):
        facts["depth judged on"] = f"one in {MASK_EVERY} LiDAR returns, hidden from the model"
    parts.append(f'<div class="row">{web_page.facts("", facts)}</div>')
    parts += ["<h2>What looks wrong</h2>", _verdicts(bags)]
    if results:
        parts.append("<h2>Figures</h2>")
        made = (web_page.table(t.caption, t.rows, t.head) for t in tables(results))
        parts.append(f'<div class="row">{"".join(made)}</div>')
        parts += [f'<p class="note">{html.escape(why)}</p>' for why in reasons(results)]
    if timings:
        parts += ["<h2>Time</h2>", _times(timings)]
    parts += ["<h2>Every image</h2>", *(_timeline(name, rows) for name, rows in frames.items())]
    parts += _worst(read, frames, judge)
    (out / "index.html").write_text(web_page.page(f"{judge.manifest.name}: replay", parts))


def _verdicts(bags: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each check of each bag, and for what was lost."""
    rows = []
    for name, bag in bags.items():
        lost = [bag["error"]] if "error" in bag else list(bag["lost"])
        if bag.get("unjudged"):
            lost.append(f"{bag['unjudged']} results were not judged: {bag['faults']['truth']}")
        found = [("bag", WARN, words) for words in lost]
        found += [
            ("dropped", WARN, f"{number} x {reason}: {bag['faults'][reason]}")
            for reason, number in bag.get("drops", {}).items()
        ]
        found += [(k, c["verdict"], c["words"]) for k, c in bag.get("checks", {}).items()]
        rows += [
            f"<tr><td>{html.escape(name)}</td><td>{check}</td><td>{_badge(verdict)}</td>"
            f"<td>{html.escape(words)}</td></tr>"
            for check, verdict, words in found
        ]
    head = "<tr><th>bag</th><th>check</th><th></th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _badge(verdict: str) -> str:
    color = BADGES.get(verdict, "#8a8a8a")
    return (
        f'<span style="background: {color}; color: white; border-radius: 3px; '
        f'padding: 0 .5em">{verdict}</span>'
    )


def _times(timings: Sequence[Row]) -> str:
    """How long a frame took: histogram, timeline, and percentiles by stage."""
    stages = {
        stage: [row[stage] for row in timings if row.get(stage) is not None]
        for stage in timings[0]
        if stage != "stamp_ns"
    }
    total = np.sum(list(stages.values()), axis=0)
    marks = {f"p{q}": float(np.percentile(total, q)) for q in (50, 99)}
    rows = [
        (stage, *(f"{np.percentile(values, q):.1f}" for q in (50, 99, 100)))
        for stage, values in {**stages, "in all": total.tolist()}.items()
    ]
    count = list(range(len(timings)))
    return (
        f'<div class="row">{histogram("Time per result", total.tolist(), "ms", marks)}'
        f"{lines('Time by stage, ms', count, stages, 'result')}"
        f"{web_page.table('ms', rows, ('', 'p50', 'p99', 'most'))}</div>"
    )


def _timeline(name: str, rows: Sequence[Row]) -> str:
    """What became of every image of a bag, and how good it was."""
    times_s = np.array([row["arrival_ns"] for row in rows], np.int64)
    since_s = ((times_s - times_s[0]) / 1e9).tolist() if len(rows) else []
    colors = [
        DROPPED if row["drop"] else FUSED if "+" in row["modalities"] else ALONE for row in rows
    ]
    legend = (
        f'<span style="color: {FUSED}">&#9632;</span> all sensors '
        f'<span style="color: {ALONE}">&#9632;</span> one sensor '
        f'<span style="color: {DROPPED}">&#9632;</span> dropped'
    )
    label = "s since the first image"
    plots = [strip("What became of each image", since_s, colors, label)]
    for title, columns in (
        ("Depth MAE, m", {mode: f"{mode}_depth_mae_m" for mode in JUDGED_MODES}),
        ("BEV mAP", {mode: f"{mode}_bev_map" for mode in JUDGED_MODES}),
        ("Disagreement of modalities", _columns("disagreement", "detections", "labels", "depth")),
        ("Flicker", _columns("flicker", "detections", "labels")),
        ("Calibration drift, degrees", _columns("calibration", "pitch_deg", "yaw_deg", "roll_deg")),
    ):
        series = {
            key.replace("_", " "): [_number(row[column]) for row in rows]
            for key, column in columns.items()
        }
        if any(value == value for values in series.values() for value in values):
            plots.append(lines(title, since_s, series, label))
    return f"<h3>{html.escape(name)}</h3><p>{legend}</p><div class=row>{''.join(plots)}</div>"


def _columns(prefix: str, *names: str) -> dict[str, str]:
    return {name: f"{prefix}_{name}" for name in names}


def _worst(
    bags: Mapping[str, Mapping[str, Any]], frames: Mapping[str, Sequence[Row]], judge: Judge
) -> list[str]:
    """Pictures of the frames that are worst by their figures."""
    rated = (judged_frame(name, row) for name, rows in frames.items() for row in rows)
    judged = [frame for frame in rated if frame is not None]
    chosen = rank_frames(judged)[::-1][:WORST]
    parts = ["<h2>Worst frames</h2>"] if chosen else []
    for name in dict.fromkeys(frame.camera_name for frame in chosen):
        ours = {frame.index: frame for frame in chosen if frame.camera_name == name}
        for number, picture in _pictures(bags[name], list(ours), judge):
            figures = next(iter(ours[number].summaries.values()))
            known = ", ".join(
                f"{key.replace('_', ' ')} {value:.3f}"
                for key, value in vars(figures).items()
                if value == value
            )
            caption = f"{name}, image {number}, {ours[number].stamp_ns / 1e9:.3f} s: {known}"
            parts.append(web_page.figure(picture, caption))
    return parts


def _pictures(
    bag: Mapping[str, Any], numbers: Sequence[int], judge: Judge
) -> Iterator[tuple[int, np.ndarray]]:
    """As ``Judge.pictures``, of a bag that may be damaged."""
    files = [Path(file) for file in bag["files"]]
    with tempfile.TemporaryDirectory() as scratch:
        sound, _ = sound_files(files, Path(scratch), suspect=bool(bag["lost"]))
        try:
            yield from judge.pictures(sound, numbers)
        except Fault as fault:  # ends where the replay did, which told of it
            if fault.reason != "damaged_bag":
                raise


def judged_frame(bag: str, row: Row) -> FrameScores | None:
    """The figures of a row, by mode, with the bag for a camera; None where there are none."""
    modes = {}
    for mode in JUDGED_MODES:
        values = [_number(row[f"{mode}_{figure}"]) for figure in FIGURES]
        if any(value == value for value in values):
            modes[mode] = Summary(*values)
    return FrameScores(row["number"], row["stamp_ns"], bag, modes) if modes else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
