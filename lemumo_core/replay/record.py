"""The record of a replayed bag: a row for every image, merged metrics, and checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from lemumo_core.frame import Perception
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.metrics.calibration import Alignment
from lemumo_core.metrics.calibration_drift import best_rotations
from lemumo_core.metrics.consistency import difference
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.replay.calibration_check import check_calibration
from lemumo_core.replay.checks import (
    NAN,
    check_clocks,
    check_modalities,
    check_sensors,
    check_stability,
    check_view,
)
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.replay.image_events import ImageEvent
from lemumo_core.replay.modalities import REPLAY_MODALITIES
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.tables import Row

FLICKER_WITHIN_M = 4.0
"""How far an object may move between frames, the camera's own motion included."""
CONSECUTIVE_NS = 500_000_000
"""Largest time between two images whose results are compared."""

SUMMARY_FIELDS = tuple(field.name for field in fields(Summary))
COLUMNS: dict[str, type] = {
    **{"bag": str, "number": int, "stamp_ns": int, "arrival_ns": int, "drop": str},
    **{"modalities": str, "companion_gap_ms": float, "detections": int},
    **{f"{modality}_{name}": float for modality in REPLAY_MODALITIES for name in SUMMARY_FIELDS},
    **{f"disagreement_{name}": float for name in ("detections", "labels", "depth")},
    **{f"flicker_{name}": float for name in ("detections", "labels")},
    **{f"calibration_{name}": float for name in ("pitch_deg", "yaw_deg", "roll_deg")},
    "calibration_edges": int,
}
"""Columns of a row and their types; what was not measured is NaN or ''. ``companion_gap_ms`` is the
companion's stamp less the image's; the rotations are those that fit this image alone best, as in
``metrics.calibration_drift.Drift``, and rest on ``calibration_edges``."""


class BagRecord:
    """Collects the results of one camera of a bag, in order.

    Args:
        name: name of the bag, with that of the camera where there are several.
        image: topic of the images.
        transforms: fixed ones of the bag.
        compare_one_in: as ``Settings.compare_one_in`` returns it.

    Attributes:
        rows: a row of ``COLUMNS`` for every image.
        timings: a row of milliseconds by stage for every result.
        metrics: metrics of all images, by the names of ``ImageResult.metrics``.
        compared: number of results that were compared.
        faults: first message of each reason for dropping an image.
        unscored: number of results without metrics because of their labels; the first such fault
            is among ``faults``.
        returns_masked: whether depth was scored on masked LiDAR returns.
    """

    def __init__(self, name: str, image: str, transforms: TransformBuffer, compare_one_in: int):
        self.name, self._image, self._transforms = name, image, transforms
        self.rows: list[Row] = []
        self.timings: list[Row] = []
        self.metrics: dict[str, PerceptionMetric] = {}
        self.faults: dict[str, str] = {}
        self.returns_masked = False
        self.unscored = self.compared = 0
        self._compare_one_in = compare_one_in
        self._alignments: dict[int, Alignment] = {}
        self._aligned: ImageEvent | None = None
        self._previous: Perception | None = None
        self._other_clock_ns: list[int] = []
        self._empty_views: list[str] = []
        self._blank_images = 0

    def add(self, result: ImageResult) -> None:
        """Add the result of the next image."""
        event, perception = result.event, result.perception
        row: Row = {name: "" if kind is str else NAN for name, kind in COLUMNS.items()}
        row |= {"bag": self.name, "number": event.number, "detections": 0, "calibration_edges": 0}
        row |= {"stamp_ns": event.stamp_ns, "arrival_ns": event.arrival_ns}
        self.rows.append(row)
        if event.companion_ns is not None:
            row["companion_gap_ms"] = (event.companion_ns - event.stamp_ns) / 1e6
        if event.other_clock_ns is not None:
            self._other_clock_ns.append(event.other_clock_ns)
        if result.empty_view:
            self._empty_views.append(result.empty_view)
        self._blank_images += result.is_blank
        if event.fault is not None:
            row["drop"] = event.fault.reason
            self.faults.setdefault(event.fault.reason, str(event.fault))
        if perception is None:
            self._previous = None
            return
        row["modalities"] = "+".join(perception.modalities)
        row["detections"] = len(perception.detections.scores)
        self._add_scores(row, result)
        self._add_flicker(row, perception)
        self.timings.append({"stamp_ns": event.stamp_ns, **perception.timings_ms})

    def summary(self, settings: Settings) -> dict[str, Any]:
        """Return counts, checks and what was scored, as JSON values."""
        compared = {"compared": self.compared, "compare_every": self._compare_one_in}
        return {
            "image": self._image,
            **self._counts(),
            "unjudged": self.unscored,
            "depth_held_out": self.returns_masked,
            **(compared if settings.evaluate else {}),
            "checks": self._checks(settings.evaluate, settings.extrinsics),
        }

    def _counts(self) -> dict[str, Any]:
        """Return the numbers of images, results, results by modality, and drops by reason."""
        drops = Counter(row["drop"] for row in self.rows if row["drop"])
        modalities = Counter(row["modalities"] for row in self.rows if row["modalities"])
        return {
            "images": len(self.rows),
            "results": sum(modalities.values()),
            "modalities": dict(sorted(modalities.items())),
            "drops": dict(sorted(drops.items())),
        }

    def _checks(
        self, evaluated: bool, T_header_lidar: np.ndarray | None
    ) -> dict[str, dict[str, Any]]:
        """Return the outcome of each check, by name.

        Args:
            evaluated: whether results were scored; else only what needs no scores is checked.
            T_header_lidar: (4, 4) extrinsics given instead of the bag's transforms.
        """
        checks = {
            "sensors": check_sensors(self.rows, self._blank_images),
            "clocks": check_clocks(self.rows, self._other_clock_ns),
            "view": check_view(self.rows, self._empty_views),
        }
        if evaluated:
            checks["calibration"] = check_calibration(
                self._alignments, self._aligned, self._transforms, T_header_lidar
            )
            checks["modalities"] = check_modalities(self.rows)
            checks["stability"] = check_stability(self.rows)
        return checks

    def _add_scores(self, row: Row, result: ImageResult) -> None:
        self.returns_masked |= result.returns_masked
        if result.truth_fault is not None:
            self.unscored += 1
            self.faults.setdefault("truth", str(result.truth_fault))
        for modality, metric in result.metrics.items():
            if modality in self.metrics:
                self.metrics[modality].merge(metric)
            else:
                self.metrics[modality] = metric
        for modality, summary in result.summaries.items():
            row |= {f"{modality}_{name}": value for name, value in asdict(summary).items()}
        if result.disagreement is not None:
            self.compared += 1
            shares = asdict(result.disagreement)
            row |= {f"disagreement_{name}": share for name, share in shares.items()}
        if result.alignment is not None:
            self._alignments[result.event.number] = result.alignment
            self._aligned = result.event
            row["calibration_edges"] = len(result.alignment.edges)
            if row["calibration_edges"]:
                best = best_rotations(result.alignment.scores.sum(axis=0)[None])[0].tolist()
                names = ("pitch_deg", "yaw_deg", "roll_deg")
                row |= {f"calibration_{k}": degrees for k, degrees in zip(names, best, strict=True)}

    def _add_flicker(self, row: Row, perception: Perception) -> None:
        previous, self._previous = self._previous, perception
        if previous is None or previous.depth_m.shape != perception.depth_m.shape:
            return
        if 0 < perception.stamp_ns - previous.stamp_ns <= CONSECUTIVE_NS:
            changed = difference(previous, perception, FLICKER_WITHIN_M)
            row["flicker_detections"], row["flicker_labels"] = changed.detections, changed.labels
