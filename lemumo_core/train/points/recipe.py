"""Fine-tuning on points as a ``Recipe``, and what a finished run leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import data_name
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.model.sparse.segmenter import POINT_OPTIONS, POINT_WEIGHTS, load_segmenter
from lemumo_core.progress import track
from lemumo_core.train.best_weights import write_best
from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.points.config import PointsConfig
from lemumo_core.train.points.learner import PointLearner
from lemumo_core.train.points.page import NAME, write_page
from lemumo_core.train.run_folder import SUMMARY

LOOKED_AT = 64
"""Frames in which labelled points are looked for."""


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write the best weights by mIoU, with ``PointMetric.result``, and the page: ``write_best``."""
    classes = list(run.config.model.segmentation_classes)
    options = {"network": asdict(run.config.network), "classes": classes}
    text = write_best(run, weights, POINT_WEIGHTS, POINT_OPTIONS, options)
    summary = json.loads((run.out / SUMMARY).read_text())
    if "metrics" not in summary:
        return text
    write_page(run, load_segmenter(run.out)[0], summary["metrics"])
    return f"{text}\nfigures and pictures: {run.out / NAME}"


def check(config: PointsConfig, source: FrameSource) -> tuple[PointsConfig, list[str]]:
    """Refuse data without labelled points.

    Raises:
        Fault: ``no_labels``.
    """
    trained = len(source) - config.val_frames
    looked_at = evenly_spaced(trained, LOOKED_AT)
    name = data_name(config.data, config.data_options)
    if not any(_has_labels(source[i]) for i in track(looked_at, "find labels")):
        raise Fault(
            "no_labels",
            f"none of {len(looked_at)} frames of {name} has labels of LiDAR points, which "
            "--task points learns from: rendered streets have them, --data synthetic",
        )
    return config, []


def _has_labels(frame: Frame) -> bool:
    labelled = frame.labels is not None and frame.labels.point_labels is not None
    return labelled and isinstance(frame.companion, LidarScan)


POINT_FINETUNING = Recipe(PointsConfig, PointLearner, finalize, check)
