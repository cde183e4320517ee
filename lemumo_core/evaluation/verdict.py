"""Verdict on a model by its user's requirements: what it measured beside every limit."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.evaluation.requirements import Limit, Requirements
from lemumo_core.evaluation.tables import Table, as_text
from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.metrics.matching import Counts
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.wording import count_of

MET, NOT_MET, NOT_JUDGED = STATUSES = "met", "not met", "not judged"
NOT_MET_CODE, NOT_JUDGED_CODE = 4, 5
EXIT_CODES = f"""  {NOT_MET_CODE}  a limit of --requirements is not met
  {NOT_JUDGED_CODE}  none is broken, but one could not be judged, as there is no truth for it
"""
TIMES = ("latency", "rate")
FORMS = {"depth": "{:.2f} m", "latency": "{:.1f} ms", "rate": "{:.1f} Hz"}
SHARE = "{:.3f}"


@dataclass(frozen=True)
class Verdict:
    """Verdict on one limit.

    Attributes:
        limit: what was required.
        status: ``MET``, ``NOT_MET`` or ``NOT_JUDGED``.
        measured: the value; None where there is none.
        detail: what stands beside it: how much was measured on, and trivial answers; or why nothing
            was judged.
    """

    limit: Limit
    status: str
    measured: float | None
    detail: str


Measured = tuple[float | None, str]
"""A value, and what stands beside it; None with the reason why there is none."""


def assess(
    requirements: Requirements,
    metrics: Mapping[str, PerceptionMetric],
    score_threshold: float = PUBLISHED_SCORE,
    times_ms: Sequence[float] | None = None,
) -> list[Verdict]:
    """Compare what was measured with the limits.

    Args:
        requirements: the limits; ``metrics`` have their bands.
        metrics: by modality.
        score_threshold: least score of the detections that count, unless the requirements say it.
        times_ms: how long each result took; None where that was not measured.
    """
    if requirements.score_threshold is not None:
        score_threshold = requirements.score_threshold
    return [_verdict(one, metrics, score_threshold, times_ms) for one in requirements.limits]


def overall(verdicts: Sequence[Verdict]) -> str:
    """Return the status of all limits together: the worst of them."""
    statuses = {one.status for one in verdicts}
    return next(status for status in (NOT_MET, NOT_JUDGED, MET) if status in statuses)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the exit code of a command that has nothing else to report; 0 without limits."""
    if not verdicts:
        return 0
    return {NOT_MET: NOT_MET_CODE, NOT_JUDGED: NOT_JUDGED_CODE, MET: 0}[overall(verdicts)]


def sentence(verdicts: Sequence[Verdict]) -> str:
    """Return the verdict as a sentence."""
    counts = {status: sum(one.status == status for one in verdicts) for status in STATUSES}
    parts = [f"{count} {status}" for status, count in counts.items() if count]
    opening = {MET: "Good enough", NOT_MET: "Not good enough", NOT_JUDGED: "Not judged in full"}
    return f"{opening[overall(verdicts)]}: of {len(verdicts)} limits {', '.join(parts)}."


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a row for each limit: what it is about, its bound, the value, the status."""
    rows: list[tuple[str, ...]] = [
        (_subject(one.limit), _bound(one.limit), _value(one), one.status, one.detail)
        for one in verdicts
    ]
    return Table("", ("requirement", "limit", "measured", "verdict", ""), rows)


def as_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the table and the sentence for a terminal; nothing without limits."""
    if not verdicts:
        return []
    shown = verdict_table(verdicts)
    aligned = as_text(Table("", shown.head[:-1], [row[:-1] for row in shown.rows]))
    head, *lines = aligned.splitlines()
    rows = [f"{line}  {row[-1]}" for line, row in zip(lines, shown.rows, strict=True)]
    return ["", head, *rows, sentence(verdicts)]


def verdict_parts(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the section of a page, HTML; nothing without limits."""
    if not verdicts:
        return []
    shown, status = verdict_table(verdicts), overall(verdicts)
    bad = [i for i, one in enumerate(verdicts) if one.status == NOT_MET]
    kind = {MET: "note", NOT_MET: "bad", NOT_JUDGED: "warning"}[status]
    return [
        "<h2>Is it good enough?</h2>",
        f'<p class="{kind}">{html.escape(sentence(verdicts))}</p>',
        web_page.table(shown.caption, shown.rows, shown.head, bad),
    ]


def to_dict(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the verdict as JSON values."""
    limits = [
        {
            "requirement": _subject(one.limit),
            **{name: value for name, value in asdict(one.limit).items() if value is not None},
            "measured": one.measured,
            "verdict": one.status,
            "detail": one.detail,
        }
        for one in verdicts
    ]
    return {"verdict": overall(verdicts), "limits": limits}


def _verdict(
    limit: Limit,
    metrics: Mapping[str, PerceptionMetric],
    score_threshold: float,
    times_ms: Sequence[float] | None,
) -> Verdict:
    value, detail = _measure(limit, metrics, score_threshold, times_ms)
    if value is None:
        return Verdict(limit, NOT_JUDGED, None, detail)
    if np.isnan(value):  # there is truth, and the model has no answer
        return Verdict(limit, NOT_MET, None, detail)
    kept = value <= limit.bound if _is_upper(limit) else value >= limit.bound
    if limit.kind == "depth" and kept:
        scores = metrics[limit.modality].depth.scores_between(*limit.range_m)
        kept = scores.coverage >= limit.coverage
    return Verdict(limit, MET if kept else NOT_MET, value, detail)


def _measure(
    limit: Limit,
    metrics: Mapping[str, PerceptionMetric],
    score_threshold: float,
    times_ms: Sequence[float] | None,
) -> Measured:
    if limit.kind in TIMES:
        return _time(limit, times_ms)
    if limit.modality not in metrics:
        return None, f"no frame was evaluated {limit.modality.replace('_', ' ')}"
    metric = metrics[limit.modality]
    if limit.kind == "depth":
        return _depth(limit, metric)
    if limit.kind == "miou":
        return _overlap(limit, metric)
    return _objects(limit, metric, score_threshold)


def _depth(limit: Limit, metric: PerceptionMetric) -> Measured:
    scores = metric.depth.scores_between(*limit.range_m)
    if not scores.pixels:
        return None, "no frame has true depth in this range"
    beside = f"{scores.coverage:.0%} of {scores.pixels} true depths have an answer"
    if limit.coverage:
        beside += f", {limit.coverage:.0%} are required"
    trivial = {
        name: baseline.scores_between(*limit.range_m).mae_m
        for name, baseline in metric.baselines.items()
    }
    known = [f"{name} {value:.2f} m" for name, value in trivial.items() if value == value]
    return scores.mae_m, "; ".join([*(["trivial: " + ", ".join(known)] if known else []), beside])


def _objects(limit: Limit, metric: PerceptionMetric, score_threshold: float) -> Measured:
    counts = _counts(limit, metric, score_threshold)
    if isinstance(counts, str):
        return None, counts
    reported = counts.found + counts.false
    beside = f"found {counts.found} of {count_of(counts.objects, 'object')}, "
    beside += f"{count_of(counts.false, 'false detection')}, scores from {score_threshold:g} on"
    if limit.kind == "recall":
        if not counts.objects:
            return None, "no frame has such an object in this range"
        return counts.found / counts.objects, beside
    if not reported:
        return None, "no such detection in this range, so that none can be right or wrong"
    return counts.found / reported, beside


def _counts(limit: Limit, metric: PerceptionMetric, score_threshold: float) -> Counts | str:
    """Return the counts of a class; a message where nothing was counted."""
    name = limit.class_name or ""
    if metric.frames_with_boxes:
        by_class = metric.detection_by_class
        detection = by_class if name in by_class.classes else metric.detection
        return detection.counts(score_threshold, *limit.range_m)[name]
    if not metric.frames_with_2d_boxes:
        return "no frame has boxes"
    if limit.from_m is not None or limit.to_m is not None:
        return "boxes in the image have no range: leave out from_m and to_m"
    flat = metric.detection_2d
    if name not in flat.classes:
        return f"boxes in the image are counted by class, and {name} is a kind of them"
    return flat.counts(score_threshold)[name]


def _overlap(limit: Limit, metric: PerceptionMetric) -> Measured:
    found = metric.segmentation.iou()
    if not found:
        return None, "no frame has labels in view"
    pixels = metric.segmentation.confusion.sum(axis=1)
    if limit.class_name is None:
        classes = count_of(len(found), "class", "classes")
        return metric.segmentation.miou(), f"over {classes}, {pixels.sum()} pixels"
    if limit.class_name not in found:
        return None, "no labelled pixel is of this class"
    of_class = pixels[metric.segmentation.classes.index(limit.class_name)]
    return found[limit.class_name], f"over {of_class} pixels"


def _time(limit: Limit, times_ms: Sequence[float] | None) -> Measured:
    if times_ms is None:
        return None, "time was not measured; lemumo replay measures it"
    if not len(times_ms):
        return None, "there is no result"
    beside = f"of {count_of(len(times_ms), 'result')} on this machine"
    if limit.kind == "rate":
        return 1e3 / float(np.mean(times_ms)), beside
    return float(np.percentile(times_ms, limit.percentile)), beside


def _is_upper(limit: Limit) -> bool:
    return limit.kind in ("depth", "latency")


def _subject(limit: Limit) -> str:
    if limit.kind == "latency":
        return f"latency, percentile {limit.percentile:g}"
    if limit.kind == "rate":
        return "rate"
    names = {"depth": "depth error", "miou": "IoU" if limit.class_name else "mIoU"}
    words = [names.get(limit.kind, limit.kind)]
    words += [f"of {limit.class_name}"] if limit.class_name else []
    if limit.kind != "miou":
        near, far = limit.range_m
        words.append(f"{near:g}-{far:g} m")
    return f"{' '.join(words)}, {limit.modality.replace('_', ' ')}"


def _bound(limit: Limit) -> str:
    unit = {"depth": " m", "latency": " ms", "rate": " Hz"}.get(limit.kind, "")
    return f"{'at most' if _is_upper(limit) else 'at least'} {limit.bound:g}{unit}"


def _value(verdict: Verdict) -> str:
    if verdict.measured is None:
        return "-"
    return FORMS.get(verdict.limit.kind, SHARE).format(verdict.measured)
