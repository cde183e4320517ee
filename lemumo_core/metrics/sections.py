"""Sections of ``PerceptionMetric.result``: scores as plain values, and why one is missing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from lemumo_core.metrics.depth import DepthMetric, DepthScores
from lemumo_core.metrics.detection import DISTANCES_M, DetectionScores
from lemumo_core.metrics.segmentation import SegmentationMetric


def class_scores(scores: DetectionScores) -> dict[str, Any]:
    """Return the scores of each class by its name."""
    return {
        name: {
            "objects": one.truths,
            "ap": float(np.mean(one.ap)),
            "ap_within": {f"{d:g} m": ap for d, ap in zip(DISTANCES_M, one.ap, strict=True)},
            "ate_m": one.ate_m,
            "ase": one.ase,
            "aoe_rad": one.aoe_rad,
        }
        for name, one in scores.classes.items()
    }


def detection_scores(scores: DetectionScores) -> dict[str, Any]:
    """Return the means over kinds of objects and, where one is NaN, why."""
    why_null = None
    if not scores.classes:
        why_null = "no object counts: each is hidden, out of range or not in view"
    elif any(np.isnan(one.ate_m) for one in scores.classes.values()):
        why_null = "errors need matches within 2 m at a recall above 0.1"
    return {
        "objects": sum(one.truths for one in scores.classes.values()),
        "bev_map": scores.map,
        "nds": scores.nds,
        "ate_m": scores.ate_m,
        "ase": scores.ase,
        "aoe_rad": scores.aoe_rad,
        "kinds": class_scores(scores),
        "why_null": why_null,
    }


def depth_by_band(metric: DepthMetric) -> dict[str, Any]:
    """Return the scores of depth, and those of each band under ``bands``."""
    bands = metric.scores_by_band()
    return {
        **depth_scores(metric.scores()),
        "bands": {name: depth_scores(scores) for name, scores in bands.items()},
    }


def depth_scores(scores: DepthScores) -> dict[str, Any]:
    """Return the scores of depth and, where they are NaN, why."""
    why_null = None
    if not scores.pixels:
        why_null = "no frame has depth in view and in range"
    elif not scores.coverage:
        why_null = "there is no prediction where depth is known"
    return {**asdict(scores), "why_null": why_null}


def segmentation_section(metric: SegmentationMetric) -> dict[str, Any]:
    """Return the scores of labels and, where they are missing, why."""
    pixels = int(metric.confusion.sum())
    return {
        "pixels": pixels,
        "miou": metric.miou(),
        "constant_miou": metric.constant_miou(),
        "classes": metric.iou(),
        "why_null": None if pixels else "no frame has labels in view",
    }
