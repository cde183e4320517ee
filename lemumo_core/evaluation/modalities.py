"""Evaluation of a model three times on the same frames: both sensors, and either one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.data.sources import FrameSource
from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.masked_returns import DEFAULT_MASK, Mask, mask_returns
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.progress import track

MODALITIES = ("fused", "camera_only", "companion_only")
SCORE_THRESHOLD = 0.0
"""Threshold under evaluation: average precision needs the detections of low scores too."""
Predict = Callable[[Frame], Perception]
"""A model as evaluation sees it, e.g. a ``Pipeline``."""


@dataclass(frozen=True)
class FrameScores:
    """Scores of one frame.

    Attributes:
        index: in the source.
        stamp_ns: the frame's.
        camera_name: the frame's.
        summaries: by modality, of those that the frame allows.
    """

    index: int
    stamp_ns: int
    camera_name: str
    summaries: dict[str, Summary]

    @property
    def headline(self) -> str:
        """The scores of the first modality in words, empty where there is no truth."""
        summary = next(iter(self.summaries.values()))
        values = (
            ("BEV mAP {:.3f}", summary.bev_map),
            ("depth MAE {:.2f} m", summary.depth_mae_m),
            ("nearest return's {:.2f} m", summary.nearest_mae_m),
            ("linear interpolation's {:.2f} m", summary.linear_mae_m),
            ("mIoU {:.3f}", summary.miou),
            ("2D AP50 {:.3f}", summary.ap50),
        )
        return ", ".join(text.format(value) for text, value in values if value == value)


@dataclass(frozen=True)
class Evaluation:
    """Result of ``evaluate``.

    Attributes:
        metrics: by modality, of those that any frame allowed.
        frames: in the order of the source.
        mask: of the LiDAR returns masked from the model, on which depth was evaluated; None where
            it was evaluated on dense depth.
    """

    metrics: dict[str, PerceptionMetric]
    frames: list[FrameScores]
    mask: Mask | None


@dataclass(frozen=True)
class FrameEvaluation:
    """The scores that one frame adds to an ``Evaluation``; they can be pickled.

    Attributes:
        scores: of the frame.
        metrics: of the frame alone, by modality.
        is_masked: whether LiDAR returns were masked.
    """

    scores: FrameScores
    metrics: dict[str, PerceptionMetric]
    is_masked: bool


def metric_for(
    manifest: Manifest, band_edges_m: tuple[float, ...] = BAND_EDGES_M, baselines: bool = True
) -> PerceptionMetric:
    """Make an empty metric for a model's classes and boxes, with bands of depth."""
    return PerceptionMetric(
        manifest.classes,
        band_edges_m=band_edges_m,
        baselines=baselines,
        in_space=manifest.numbers_of_box == 7,
    )


def evaluate(
    model: Predict,
    manifest: Manifest,
    source: FrameSource,
    indices: Sequence[int],
    mask: Mask | None = None,
    band_edges_m: tuple[float, ...] = BAND_EDGES_M,
) -> Evaluation:
    """Evaluate a model, showing progress.

    Where frames have no dense depth, or a mask is given, LiDAR returns are masked from the model
    and its depth is evaluated on these.

    Args:
        model: predicts, e.g. a ``Pipeline`` with ``SCORE_THRESHOLD``.
        manifest: of the model.
        source: frames with labels.
        indices: which of them.
        mask: of returns, as for ``mask_returns``.
        band_edges_m: bands of depth.

    Raises:
        Fault: as the source, the model, or ``bad_labels``.
    """
    evaluated = (
        evaluate_at(model, manifest, source, index, mask, band_edges_m) for index in indices
    )
    return merge_frames(manifest, track(evaluated, "evaluate", len(indices)), mask, band_edges_m)


def evaluate_at(
    model: Predict,
    manifest: Manifest,
    source: FrameSource,
    index: int,
    mask: Mask | None,
    band_edges_m: tuple[float, ...],
) -> FrameEvaluation:
    """Evaluate a model on one frame of a source; arguments as of ``evaluate``.

    Raises:
        Fault: as ``evaluate``.
    """
    metrics = {modality: metric_for(manifest, band_edges_m) for modality in MODALITIES}
    original = source[index]
    frame = mask_returns(original, mask)
    found = evaluate_frame(model, frame, metrics)
    scores = FrameScores(index, frame.stamp_ns, frame.camera_name, found)
    return FrameEvaluation(scores, metrics, frame is not original)


def merge_frames(
    manifest: Manifest,
    frames: Iterable[FrameEvaluation],
    mask: Mask | None,
    band_edges_m: tuple[float, ...],
) -> Evaluation:
    """Merge the evaluations of frames, in the order of the source.

    ``mask`` and ``band_edges_m`` are those of ``evaluate``.
    """
    metrics = {modality: metric_for(manifest, band_edges_m) for modality in MODALITIES}
    scores, used_mask = [], None
    for one in frames:
        scores.append(one.scores)
        for modality, metric in one.metrics.items():
            metrics[modality].merge(metric)
        if one.is_masked:
            used_mask = mask or DEFAULT_MASK
    used = {modality: metric for modality, metric in metrics.items() if metric.frames}
    return Evaluation(used, scores, used_mask)


def evaluate_frame(
    model: Predict, frame: Frame, metrics: Mapping[str, PerceptionMetric]
) -> dict[str, Summary]:
    """Evaluate a model on one frame, with each modality that the frame allows.

    Args:
        model: predicts.
        frame: with labels.
        metrics: by modality; the frame is added to them.

    Returns:
        Summaries of this frame alone, by modality.

    Raises:
        Fault: as the model, or ``bad_labels``.
    """
    return {
        modality: metric.add(frame, model(seen))
        for modality, metric in metrics.items()
        if (seen := with_modality(frame, modality)) is not None
    }


def with_modality(frame: Frame, modality: str) -> Frame | None:
    """Return the frame with the sensors of a modality only; None where it lacks one of them."""
    if modality != "companion_only" and frame.image is None:
        return None
    if modality != "camera_only" and frame.companion is None:
        return None
    if modality == "camera_only":
        return replace(frame, companion=None)
    return frame if modality == "fused" else replace(frame, image=None)


def rank_frames(frames: Iterable[FrameScores]) -> list[FrameScores]:
    """Sort frames, best first, by their mean rank in the summaries that they have.

    The summary is the one with most sensors. Ranks, and not values, let metres and precisions be
    weighed against each other.
    """
    frames = [frame for frame in frames if frame.summaries]
    summaries = [next(iter(frame.summaries.values())) for frame in frames]
    columns = [
        [-one.bev_map for one in summaries],
        [one.depth_mae_m for one in summaries],
        [-one.miou for one in summaries],
        [-one.ap50 for one in summaries],
    ]
    ranks = np.array([_shares_below(np.array(column)) for column in columns])
    known = ~np.isnan(ranks)
    mean = np.where(known, ranks, 0).sum(0) / np.maximum(known.sum(0), 1)
    return [frames[i] for i in np.argsort(mean, kind="stable") if known[:, i].any()]


def _shares_below(values: np.ndarray) -> np.ndarray:
    """Return for each value the share of the known ones that are smaller; NaN for NaN."""
    known = np.sort(values[~np.isnan(values)])
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values) / max(len(known), 1))
