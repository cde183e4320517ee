"""Write the report of a replay: one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.evaluation.modalities import FrameScores, rank_frames
from lemumo_core.evaluation.report import named_facts, picture_legend
from lemumo_core.evaluation.tables import Results, camera_tables, reasons, tracking_tables
from lemumo_core.evaluation.verdict import Verdict, verdict_parts
from lemumo_core.faults import Fault
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.messages.stamps import utc
from lemumo_core.metrics.calibration_drift import correction_of
from lemumo_core.metrics.masked_returns import DEFAULT_MASK, MASK_MEANINGS
from lemumo_core.metrics.perception import Summary
from lemumo_core.plots import histogram, lines, strip
from lemumo_core.replay.checks import OK, UNDECIDED, WARN
from lemumo_core.replay.evaluator import Evaluator
from lemumo_core.replay.modalities import REPLAY_MODALITIES, result_tables
from lemumo_core.replay.record import SUMMARY_FIELDS
from lemumo_core.replay.summaries import comparison_note, sound_files_of
from lemumo_core.replay.tables import FRAMES, TIMINGS, Row, read_table
from lemumo_core.wording import count_of

WORST = 6
FUSED, ALONE, DROPPED = "#3a8a4d", "#e0a526", "#c2182b"
BADGES = {OK: FUSED, WARN: DROPPED}


def write_report(
    out: Path,
    totals: Mapping[str, Any],
    results: Results,
    bags: Mapping[str, Mapping[str, Any]],
    evaluator: Evaluator,
    recovered: RecoveredBag,
    verdicts: Sequence[Verdict] = (),
) -> None:
    """Write ``index.html``.

    Args:
        out: output folder of the replay.
        totals: values of the whole run.
        results: metrics by modality.
        bags: summaries by bag.
        evaluator: evaluates the worst frames again, to draw them.
        recovered: reads damaged bags for that.
        verdicts: on the user's requirements.
    """
    read = {name: bag for name, bag in bags.items() if "error" not in bag}
    frames = {name: read_table(out / name / FRAMES) for name in read}
    timings = [row for name in read for row in read_table(out / name / TIMINGS)]
    parts = _warnings(bags, read)
    if not read:
        web_page.write_page(out / "index.html", "Nothing was replayed", parts)
        return
    if not evaluator.manifest.trained:
        parts.append(
            '<p class="warning">The weights are <b>untrained</b>: all scores are near zero.</p>'
        )
    names = list(dict.fromkeys(name.partition("/")[0] for name in bags))
    if note := rendered_note(evaluator.manifest, f"as here on {web_page.few(names)}"):
        parts.append(f'<p class="warning">{html.escape(note)}</p>')
    plain = {key: value for key, value in totals.items() if not isinstance(value, dict)}
    facts = named_facts(plain)
    facts["bags"] = len(names)
    if cameras := totals.get("cameras"):
        facts["cameras"] = ", ".join(cameras)
    if any(bag["depth_held_out"] for bag in read.values()):
        mask = MASK_MEANINGS[evaluator.settings.mask or DEFAULT_MASK]
        facts["depth scored on"] = f"{mask}, of images compared; all else as published"
    parts.append(f'<div class="row">{web_page.facts("", facts)}</div>')
    parts += verdict_parts(verdicts)
    parts += ["<h2>Checks</h2>", _verdicts(bags), *_calibration(read, evaluator, recovered)]
    if results:
        parts.append("<h2>Metrics</h2>")
        if note := comparison_note(totals):
            parts.append(f"<p>{html.escape(note)}</p>")
        of_each = camera_tables(results, totals.get("cameras", {}))
        shown = [*result_tables(results), *of_each, *tracking_tables(totals.get("tracking", {}))]
        made = (web_page.table(t.caption, t.rows, t.head) for t in shown)
        parts.append(f'<div class="row">{"".join(made)}</div>')
        parts += [f'<p class="note">{html.escape(why)}</p>' for why in reasons(results)]
    if timings:
        parts += ["<h2>Time</h2>", _times(timings)]
    parts += ["<h2>Every image</h2>", *(_timeline(name, rows) for name, rows in frames.items())]
    parts += _worst(read, frames, evaluator, recovered)
    model = evaluator.manifest.name
    title = f"{model}: replay" if totals["results"] else "No image became a result"
    web_page.write_page(out / "index.html", title, parts)


def _warnings(
    bags: Mapping[str, Mapping[str, Any]], read: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a warning for each bag that is not in the results, or gave none."""
    found = [
        f"{name} could not be read: {bag['error']}"
        for name, bag in bags.items()
        if name not in read
    ]
    empty = [name for name, bag in read.items() if not bag["results"]]
    found += [f"{name}: no image became a result" for name in empty]
    return [f'<p class="warning">{html.escape(words)}</p>' for words in found]


def _verdicts(bags: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with a line for each check of each bag, and for what was lost."""
    rows = []
    for name, bag in bags.items():
        lost = [bag["error"]] if "error" in bag else list(bag["lost"])
        if bag.get("unjudged"):
            unscored = count_of(bag["unjudged"], "result was", "results were")
            lost.append(f"{unscored} not scored: {bag['faults']['truth']}")
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


def _calibration(
    read: Mapping[str, Mapping[str, Any]], evaluator: Evaluator, recovered: RecoveredBag
) -> list[str]:
    """Return the depth edges of one image, of the first bag whose calibration looks worst."""
    checks = {name: bag["checks"].get("calibration", {}) for name, bag in read.items()}
    shown = [name for name, check in checks.items() if check.get("scenes")]
    if not shown:
        return []
    name = min(shown, key=lambda name: (WARN, UNDECIDED, OK).index(checks[name]["verdict"]))
    number = checks[name]["picture"]
    correction = correction_of(checks[name]["rotation_deg"], checks[name]["shift_m"])
    picture = None
    with _unless_damaged():
        files, image = sound_files_of(read[name], recovered), read[name]["image"]
        picture = evaluator.calibration_picture(files, image, number, correction)
    words = (
        f"{name}, image {number}: where depth jumps in the LiDAR's scan, by the extrinsics in use "
        "(red)"
    )
    if checks[name]["angle_deg"]:
        words += " and turned so that all images fit best (green)"
    return [] if picture is None else [web_page.figure(picture, words)]


def _badge(verdict: str) -> str:
    color = BADGES.get(verdict, "#8a8a8a")
    return (
        f'<span style="background: {color}; color: white; border-radius: 3px; '
        f'padding: 0 .5em">{verdict}</span>'
    )


def _times(timings: Sequence[Row]) -> str:
    """Return histogram, timeline and percentiles by stage of the time that a frame took."""
    stages = {
        stage: [row[stage] for row in timings if row.get(stage) is not None]
        for stage in timings[0]
        if stage != "stamp_ns"
    }
    total = np.sum(list(stages.values()), axis=0)
    marks = {f"p{q}": float(np.percentile(total, q)) for q in (50, 99)}
    rows = [
        (stage, *(f"{np.percentile(values, q):.1f}" for q in (50, 99, 100)))
        for stage, values in {**stages, "total": total.tolist()}.items()
    ]
    count = list(range(len(timings)))
    return (
        f'<div class="row">{histogram("Time per result", total.tolist(), "ms", marks)}'
        f"{lines('Time by stage, ms', count, stages, 'result')}"
        f"{web_page.table('ms', rows, ('', 'p50', 'p99', 'max'))}</div>"
    )


def _timeline(name: str, rows: Sequence[Row]) -> str:
    """Return a strip of the images of a bag, used or dropped, and their scores over time."""
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
    plots = [strip("Images", since_s, colors, label)]
    for title, columns in (
        ("Depth MAE, m", _depth_columns()),
        ("BEV mAP", {modality: f"{modality}_bev_map" for modality in REPLAY_MODALITIES}),
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


def _depth_columns() -> dict[str, str]:
    """Return the columns of depth errors, those of the trivial answers beside the model's."""
    columns = {modality: f"{modality}_depth_mae_m" for modality in REPLAY_MODALITIES}
    first = REPLAY_MODALITIES[0]
    trivial = {"nearest return": "nearest", "linear interpolation": "linear"}
    return columns | {name: f"{first}_{key}_mae_m" for name, key in trivial.items()}


def _columns(prefix: str, *names: str) -> dict[str, str]:
    return {name: f"{prefix}_{name}" for name in names}


def _worst(
    bags: Mapping[str, Mapping[str, Any]],
    frames: Mapping[str, Sequence[Row]],
    evaluator: Evaluator,
    recovered: RecoveredBag,
) -> list[str]:
    """Return pictures of the frames with the worst scores."""
    scores = (frame_scores(name, row) for name, rows in frames.items() for row in rows)
    chosen = rank_frames(frame for frame in scores if frame is not None)[::-1][:WORST]
    legend = picture_legend(evaluator.manifest)
    parts = ["<h2>Worst frames</h2>", f"<p>{legend}</p>"] if chosen else []
    for name in dict.fromkeys(frame.camera_name for frame in chosen):
        ours = {frame.index: frame for frame in chosen if frame.camera_name == name}
        camera = bags[name].get("camera", ""), bags[name]["image"]
        with _unless_damaged():
            files = sound_files_of(bags[name], recovered)
            for number, picture in evaluator.comparisons(files, *camera, list(ours)):
                frame = ours[number]
                caption = f"{name}, image {number}, {utc(frame.stamp_ns)}: {frame.headline}"
                parts.append(web_page.figure(picture, caption))
    return parts


@contextmanager
def _unless_damaged() -> Iterator[None]:
    """End where a bag is damaged: the replay ended there, too, and reported it."""
    try:
        yield
    except Fault as fault:
        if fault.reason != "damaged_bag":
            raise


def frame_scores(bag: str, row: Row) -> FrameScores | None:
    """Return the scores of a row, with the bag as camera name; None where there are none."""
    summaries = {}
    for modality in REPLAY_MODALITIES:
        values = [_number(row[f"{modality}_{name}"]) for name in SUMMARY_FIELDS]
        if any(value == value for value in values):
            summaries[modality] = Summary(*values)
    return FrameScores(row["number"], row["stamp_ns"], bag, summaries) if summaries else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
