"""A model judged three times on the same frames: with both sensors, and with either one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.data.sources import FrameSource
from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.masked_returns import MASK_EVERY, mask_returns
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.progress import Progress

MODALITIES = ("fused", "camera_only", "companion_only")
SCORE_THRESHOLD = 0.0
"""Of a pipeline that is to be judged: average precision needs the detections of low scores too."""
Model = Callable[[Frame], Perception]


@dataclass(frozen=True)
class FrameScores:
    """Figures of one frame.

    Attributes:
        index: in the source.
        stamp_ns, camera_name: the frame's.
        summaries: by modality, of those that the frame allows.
    """

    index: int
    stamp_ns: int
    camera_name: str
    summaries: dict[str, Summary]


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        metrics: by mode, of the modes that any frame allowed.
        frames: in the order of the source.
        returns_masked: whether depth was judged on LiDAR returns that were hidden from the model.
    """

    metrics: dict[str, PerceptionMetric]
    frames: list[FrameScores]
    returns_masked: bool


def metric_for(manifest: Manifest) -> PerceptionMetric:
    """A metric for a model's classes."""
    return PerceptionMetric(manifest.detection_classes, manifest.segmentation_classes)


def evaluate(
    model: Model, manifest: Manifest, source: FrameSource, indices: Sequence[int]
) -> Evaluation:
    """Judge a model, showing progress.

    Where frames have no dense depth, a tenth of the LiDAR returns is hidden from the model and its
    depth is judged on these.

    Args:
        model: e.g. a ``Pipeline`` with ``SCORE_THRESHOLD``.
        manifest: of the model.
        source: frames with labels.
        indices: which of them.

    Raises:
        Fault: as the source, the model, or ``bad_labels``.
    """
    metrics = {mode: metric_for(manifest) for mode in MODALITIES}
    frames, returns_masked, progress = [], False, Progress("evaluate", len(indices))
    for index in indices:
        original = source[index]
        frame = mask_returns(original, MASK_EVERY)
        returns_masked |= frame is not original
        found = evaluate_frame(model, frame, metrics)
        frames.append(FrameScores(index, frame.stamp_ns, frame.camera_name, found))
        progress.update(len(frames))
    progress.finish()
    used = {mode: metric for mode, metric in metrics.items() if metric.frames}
    return Evaluation(used, frames, returns_masked)


def evaluate_frame(
    model: Model, frame: Frame, metrics: Mapping[str, PerceptionMetric]
) -> dict[str, Summary]:
    """Judge a model on one frame, in the modes that the frame allows.

    Args:
        model, frame: as for ``evaluate``.
        metrics: by mode; they take the frame in.
    """
    return {
        mode: metric.add(frame, model(seen))
        for mode, metric in metrics.items()
        if (seen := with_modality(frame, mode)) is not None
    }


def with_modality(frame: Frame, mode: str) -> Frame | None:
    """The frame with the sensors of a mode only; None where it lacks one of them."""
    if mode != "companion_only" and frame.image is None:
        return None
    if mode != "camera_only" and frame.companion is None:
        return None
    if mode == "camera_only":
        return replace(frame, companion=None)
    return frame if mode == "fused" else replace(frame, image=None)


def rank_frames(frames: Iterable[FrameScores]) -> list[FrameScores]:
    """Frames by their mean rank in the figures that they have, with all the sensors they have.

    Ranks, and not values, so that metres and precisions can be weighed against each other.
    """
    frames = [frame for frame in frames if frame.summaries]
    figures = [next(iter(frame.summaries.values())) for frame in frames]
    columns = [
        [-one.bev_map for one in figures],
        [one.depth_mae_m for one in figures],
        [-one.miou for one in figures],
        [-one.ap50 for one in figures],
    ]
    ranks = np.array([_shares_below(np.array(column)) for column in columns])
    known = ~np.isnan(ranks)
    mean = np.where(known, ranks, 0).sum(0) / np.maximum(known.sum(0), 1)
    return [frames[i] for i in np.argsort(mean, kind="stable") if known[:, i].any()]


def _shares_below(values: np.ndarray) -> np.ndarray:
    """For each value the share of the known ones that are smaller; NaN for NaN."""
    known = np.sort(values[~np.isnan(values)])
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values) / max(len(known), 1))
