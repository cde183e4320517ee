"""Checks of a replayed bag that need no labels: sensors, clocks, view, steady results.

Each returns a ``verdict`` (ok, warn or undecided), a sentence under ``words``, and its values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median_low
from typing import Any

import numpy as np

from lemumo_core.messages.stamps import describe_clock_offset
from lemumo_core.replay.tables import Row
from lemumo_core.streaming.empty_view import EMPTY_VIEWS
from lemumo_core.streaming.sync import MAX_LAG_NS
from lemumo_core.wording import count_of

OK, WARN, UNDECIDED = "ok", "warn", "undecided"
LIMITS = {"detections": 0.5, "labels": 0.25, "depth": 0.25}
"""Mean of each part of a ``Difference`` past which modalities disagree or results flicker."""
NOTHING = "nothing, but one colour all over: is the lens covered, or the exposure wrong?"
LATE_PERIODS = 1.5
"""Gap between images, in median periods, from which images are missing."""
NAN = float("nan")
Check = dict[str, Any]


def check_sensors(rows: Sequence[Row], blank_images: int = 0) -> Check:
    """Check that no image is missing, dropped or blank, and that each has its companion.

    Args:
        rows: rows of all images.
        blank_images: how many of the results have an image that shows nothing.
    """
    stamps = np.array([row["stamp_ns"] for row in rows if row["stamp_ns"]], np.int64)
    periods_ms = np.diff(stamps) / 1e6
    period_ms = float(np.median(periods_ms)) if len(periods_ms) else NAN
    gaps = periods_ms[periods_ms > LATE_PERIODS * period_ms] if period_ms > 0 else periods_ms[:0]
    missing = int(np.round(gaps / period_ms - 1).sum()) if len(gaps) else 0
    used = [row for row in rows if row["modalities"]]
    alone = sum("+" not in row["modalities"] for row in used)
    offset_ms = [abs(row["companion_gap_ms"]) for row in used]
    dropped = len(rows) - len(used)
    lost = f"{count_of(missing, 'image is', 'images are')} missing in {count_of(len(gaps), 'gap')}"
    complaints = [
        *([f"{dropped} of {len(rows)} images were dropped"] if dropped else []),
        *([lost] if missing else []),
        *([f"{alone} of {len(used)} results are of one sensor alone"] if alone else []),
        *([f"{blank_images} of {len(used)} images show {NOTHING}"] if blank_images else []),
    ]
    return {
        "verdict": WARN if complaints else OK if used else UNDECIDED,
        "words": ", ".join(complaints) or "every image came, with its companion",
        "missing_images": missing,
        "single_sensor": alone,
        "blank_images": blank_images,
        "period_ms": period_ms,
        "companion_offset_ms": _mean(offset_ms),
    }


def check_clocks(rows: Sequence[Row], other_clock_ns: Sequence[int]) -> Check:
    """Check that stamps and log times advance alike, and that the companion's clock is the image's.

    Args:
        rows: rows of all images.
        other_clock_ns: ``ImageEvent.other_clock_ns`` of the images that have one.
    """
    times = np.array([(row["stamp_ns"], row["arrival_ns"]) for row in rows], np.int64)
    steps = np.diff(times.reshape(-1, 2), axis=0)
    jumps = (steps < 0).any(axis=1) | (abs(steps[:, 0] - steps[:, 1]) > MAX_LAG_NS)
    numbers = [rows[i + 1]["number"] for i in np.flatnonzero(jumps).tolist()]
    complaints = []
    if numbers:
        complaints.append(f"the clock jumps before image {', '.join(map(str, numbers[:5]))}")
    ahead_ns = median_low(other_clock_ns) if other_clock_ns else None
    if ahead_ns is not None:
        complaints.append(describe_clock_offset("companion", ahead_ns))
    return {
        "verdict": WARN if complaints else OK,
        "words": "; ".join(complaints) or "stamps and log times run evenly",
        "jumps": len(numbers),
        "companion_ahead_s": NAN if ahead_ns is None else ahead_ns / 1e9,
    }


def check_view(rows: Sequence[Row], causes: Sequence[str]) -> Check:
    """Check that LiDAR returns are in view.

    Args:
        rows: rows of all images.
        causes: ``ImageResult.empty_view`` of the results that have one.
    """
    used = [row for row in rows if row["modalities"]]
    scans = sum(not math.isnan(row["companion_gap_ms"]) for row in used)
    is_wrong = bool(causes) and len(causes) >= min(EMPTY_VIEWS, scans)
    words = f"{len(causes)} of {scans} scans have no return in view: {causes[0]}" if causes else ""
    return {
        "verdict": WARN if is_wrong else OK if scans else UNDECIDED,
        "words": words or ("returns are in view" if scans else "no result had a scan"),
        "empty_views": len(causes),
    }


def check_modalities(rows: Sequence[Row]) -> Check:
    """Check that fused and camera-only results agree on average."""
    columns = {name: f"disagreement_{name}" for name in ("detections", "labels", "depth")}
    good, bad = "fused and camera-only results agree", "fused and camera-only results disagree"
    return _check_means(rows, columns, good, bad)


def check_stability(rows: Sequence[Row]) -> Check:
    """Check that results of consecutive images agree on average."""
    columns = {name: f"flicker_{name}" for name in ("detections", "labels")}
    return _check_means(rows, columns, "results are steady from frame to frame", "results flicker")


def _check_means(rows: Sequence[Row], columns: dict[str, str], good: str, bad: str) -> Check:
    means = {name: _mean([row[column] for row in rows]) for name, column in columns.items()}
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if not known:
        return {"verdict": UNDECIDED, "words": "there was nothing to compare", **means}
    past = [name for name, mean in known.items() if mean > LIMITS[name]]
    shares = ", ".join(f"{name} {mean:.0%}" for name, mean in known.items())
    *others, last = past or [""]
    words = f"{bad} in {', '.join(others)}{' and ' if others else ''}{last}" if past else good
    words = f"{words} (mean difference: {shares})"
    return {"verdict": WARN if past else OK, "words": words, **means}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else NAN
