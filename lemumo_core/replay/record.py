"""What a replay remembers of a bag: a row for every image, and checks that need no labels."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from lemumo_core.frame import Perception
from lemumo_core.metrics.calibration import WARN_DEG, Alignment, Drift, drift
from lemumo_core.metrics.consistency import difference
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.replay.evaluator import JUDGED_MODES, Result
from lemumo_core.streaming.sync import MAX_LAG_NS

FLICKER_WITHIN_M = 4.0
"""How far an object may move between frames, the camera's own motion included."""
CONSECUTIVE_NS = 500_000_000
DEPTH_WARN, LABELS_WARN, DETECTIONS_WARN = 0.25, 0.25, 0.5
"""Means of ``Difference`` past which modalities disagree or results flicker."""
LATE_PERIODS = 1.5
"""Gap between images, in median periods, from which images are missing."""

OK, WARN, UNDECIDED = "ok", "warn", "undecided"
NAN = float("nan")
FIGURES = tuple(field.name for field in fields(Summary))
COLUMNS: dict[str, type] = {
    **{"bag": str, "number": int, "stamp_ns": int, "arrival_ns": int, "drop": str},
    **{"modalities": str, "companion_gap_ms": float, "detections": int},
    **{f"{mode}_{figure}": float for mode in JUDGED_MODES for figure in FIGURES},
    **{f"disagreement_{what}": float for what in ("detections", "labels", "depth")},
    **{f"flicker_{what}": float for what in ("detections", "labels")},
    **{f"calibration_{what}": float for what in ("pitch_deg", "yaw_deg", "roll_deg")},
    **{"calibration_confidence": float, "calibration_verdict": str},
}
"""Of a row; what was not measured is NaN or ''. ``companion_gap_ms`` is the companion's stamp less
the image's; the rotations are ``metrics.calibration.Drift``'s."""


class BagRecord:
    """Takes in the results of one bag, in order.

    Args:
        name: of the bag.

    Attributes:
        rows: of ``COLUMNS``.
        timings: a row of milliseconds by stage for every image that was perceived.
        metrics: by mode.
        faults: first message of each reason for dropping an image.
        unjudged: results whose truth is at fault; the first such fault is among ``faults``.
        held_out: whether depth was judged on hidden LiDAR returns.
    """

    def __init__(self, name: str):
        self.name = name
        self.rows: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.metrics: dict[str, PerceptionMetric] = {}
        self.faults: dict[str, str] = {}
        self.held_out = False
        self.unjudged = 0
        self._alignments: list[Alignment] = []
        self._before: Perception | None = None

    def add(self, result: Result) -> None:
        """Take in the next image."""
        instant, perception = result.instant, result.perception
        row: dict[str, Any] = {key: "" if kind is str else NAN for key, kind in COLUMNS.items()}
        row |= {"bag": self.name, "number": instant.number, "detections": 0}
        row |= {"stamp_ns": instant.stamp_ns, "arrival_ns": instant.arrival_ns}
        self.rows.append(row)
        if instant.companion_ns is not None:
            row["companion_gap_ms"] = (instant.companion_ns - instant.stamp_ns) / 1e6
        if instant.fault is not None:
            row["drop"] = instant.fault.reason
            self.faults.setdefault(instant.fault.reason, str(instant.fault))
        if perception is None:
            self._before = None
            return
        row["modalities"] = "+".join(perception.modalities)
        row["detections"] = len(perception.detections.scores)
        self._judge(row, result)
        self._compare_with_last(row, perception)
        self.timings.append({"stamp_ns": instant.stamp_ns, **perception.timings_ms})

    def counts(self) -> dict[str, Any]:
        """Images, results, results by modality, and drops by reason."""
        drops = Counter(row["drop"] for row in self.rows if row["drop"])
        modalities = Counter(row["modalities"] for row in self.rows if row["modalities"])
        return {
            "images": len(self.rows),
            "results": sum(modalities.values()),
            "modalities": dict(sorted(modalities.items())),
            "drops": dict(sorted(drops.items())),
        }

    def checks(self, evaluated: bool) -> dict[str, dict[str, Any]]:
        """Check to ``verdict`` (ok, warn or undecided), ``words``, and its figures.

        Args:
            evaluated: False leaves out what needs more than the results.
        """
        always = {"sensors": self._sensors(), "clocks": self._clocks()}
        if not evaluated:
            return always
        return {
            **always,
            "calibration": _calibration(drift(self._alignments), len(self._alignments)),
            "modalities": self._means(
                "disagreement",
                "fused and camera-only results agree",
                "fused and camera-only results disagree",
            ),
            "stability": self._means(
                "flicker", "results are steady from frame to frame", "results flicker"
            ),
        }

    def _judge(self, row: dict[str, Any], result: Result) -> None:
        self.held_out |= result.held_out
        if result.unjudged is not None:
            self.unjudged += 1
            self.faults.setdefault("truth", str(result.unjudged))
        for mode, metric in result.metrics.items():
            if mode in self.metrics:
                self.metrics[mode].merge(metric)
            else:
                self.metrics[mode] = metric
        for mode, figures in result.figures.items():
            row |= {f"{mode}_{name}": value for name, value in asdict(figures).items()}
        if result.disagreement is not None:
            shares = asdict(result.disagreement)
            row |= {f"disagreement_{name}": share for name, share in shares.items()}
        if result.alignment is not None:
            self._alignments.append(result.alignment)
            found = drift([result.alignment])
            row["calibration_verdict"] = found.verdict
            if not found.confidence:
                return  # too few edges for any rotation
            names = ("pitch_deg", "yaw_deg", "roll_deg")
            for name, degrees in zip(names, found.rotation_deg, strict=True):
                row[f"calibration_{name}"] = degrees
            row["calibration_confidence"] = found.confidence

    def _compare_with_last(self, row: dict[str, Any], perception: Perception) -> None:
        before, self._before = self._before, perception
        if before is None or before.depth_m.shape != perception.depth_m.shape:
            return
        if 0 < perception.stamp_ns - before.stamp_ns <= CONSECUTIVE_NS:
            changed = difference(before, perception, FLICKER_WITHIN_M)
            row["flicker_detections"], row["flicker_labels"] = changed.detections, changed.labels

    def _means(self, prefix: str, good: str, bad: str) -> dict[str, Any]:
        limits = {"detections": DETECTIONS_WARN, "labels": LABELS_WARN, "depth": DEPTH_WARN}
        figures = {
            name: _mean([row[f"{prefix}_{name}"] for row in self.rows])
            for name in limits
            if f"{prefix}_{name}" in COLUMNS
        }
        known = {name: value for name, value in figures.items() if not math.isnan(value)}
        if not known:
            return {"verdict": UNDECIDED, "words": "there was nothing to compare", **figures}
        past = [name for name, value in known.items() if value > limits[name]]
        shares = ", ".join(f"{name} by {value:.0%}" for name, value in known.items())
        words = f"{bad} in {' and '.join(past)}" if past else good
        return {
            "verdict": WARN if past else OK,
            "words": f"{words}: {shares} on average",
            **figures,
        }

    def _sensors(self) -> dict[str, Any]:
        stamps = np.array([row["stamp_ns"] for row in self.rows if row["stamp_ns"]], np.int64)
        periods_ms = np.diff(stamps) / 1e6
        period_ms = float(np.median(periods_ms)) if len(periods_ms) else NAN
        gaps = (
            periods_ms[periods_ms > LATE_PERIODS * period_ms] if period_ms > 0 else periods_ms[:0]
        )
        missing = int(np.round(gaps / period_ms - 1).sum()) if len(gaps) else 0
        used = [row for row in self.rows if row["modalities"]]
        alone = sum("+" not in row["modalities"] for row in used)
        offset_ms = [abs(row["companion_gap_ms"]) for row in used]
        dropped = len(self.rows) - len(used)
        complaints = [
            *([f"{dropped} of {len(self.rows)} images were dropped"] if dropped else []),
            *([f"{missing} images are missing in {len(gaps)} gaps"] if missing else []),
            *([f"{alone} of {len(used)} results had to do with one sensor"] if alone else []),
        ]
        return {
            "verdict": WARN if complaints else OK if used else UNDECIDED,
            "words": ", ".join(complaints) or "every image came, with its companion",
            "missing_images": missing,
            "single_sensor": alone,
            "period_ms": period_ms,
            "companion_offset_ms": _mean(offset_ms),
        }

    def _clocks(self) -> dict[str, Any]:
        times = np.array([(row["stamp_ns"], row["arrival_ns"]) for row in self.rows], np.int64)
        steps = np.diff(times.reshape(-1, 2), axis=0)
        jumps = (steps < 0).any(axis=1) | (abs(steps[:, 0] - steps[:, 1]) > MAX_LAG_NS)
        at = [self.rows[i + 1]["number"] for i in np.flatnonzero(jumps)]
        words = f"the clock jumps before image {', '.join(map(str, at[:5]))}"
        return {
            "verdict": WARN if at else OK,
            "words": words if at else "stamps and log times run evenly",
            "jumps": len(at),
        }


def _calibration(found: Drift, frames: int) -> dict[str, Any]:
    pitch, yaw, roll = found.rotation_deg
    turn = f"pitch {pitch:+.2f}, yaw {yaw:+.2f}, roll {roll:+.2f} degrees"
    words = {
        "aligned": f"LiDAR and image fit within {WARN_DEG} degree (best with {turn})",
        "drifted": (
            f"the extrinsics are off by {found.angle_deg:.2f} degree: LiDAR edges meet image edges "
            f"best after {turn} about the camera's x, y and z; calibrate anew"
        ),
        "undecided": "too few depth edges, or they do not agree: drive past more structure",
    }[found.verdict]
    verdict = {"aligned": OK, "drifted": WARN, "undecided": UNDECIDED}[found.verdict]
    return {"verdict": verdict, "words": words, "frames": frames, **asdict(found)} | {
        "verdict": verdict
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else NAN
