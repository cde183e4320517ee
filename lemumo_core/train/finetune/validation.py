"""Validation of a model in training, as ``lemumo evaluate`` evaluates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from signal import SIGTERM

import numpy as np
from torch import distributed

from lemumo_core.distributed import world_size
from lemumo_core.evaluation.modalities import (
    MODALITIES,
    SCORE_THRESHOLD,
    evaluate_frame,
    metric_for,
)
from lemumo_core.inference.backends.torch import ModuleBackend
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.methods.method import evaluating
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.progress import track
from lemumo_core.signals import Stopped
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import any_rank

SHOWN = {
    "bev_map": "BEV mAP {:.3f}",
    "ap50": "AP50 {:.3f}",
    "depth_mae_m": "depth MAE {:.2f} m",
    "nearest_mae_m": "(nearest return {:.2f} m,",
    "linear_mae_m": "linear {:.2f} m)",
    "miou": "mIoU {:.3f}",
}
"""Metrics to look at first, of ``metrics.perception.Summary``."""


class Validation:
    """Evaluates one model again and again on the validation frames.

    Args:
        run: whose validation frames these are; ranks share them.
        model: whose weights change in between.
        frames: which of them; by default all.
    """

    def __init__(self, run: Run, model: PerceptionModel, frames: range | None = None):
        self.model, self.source, dist = model, run.samples.source, run.dist
        self.dist, self.stop = dist, run.stop
        last = range(run.sampler.frames, run.sampler.frames + run.config.val_frames)
        self.frames = (last if frames is None else frames)[dist.rank :: dist.world]
        self.manifest = manifest_of(model.config, run.out.name, trained=True)
        with evaluating(model):
            backend = ModuleBackend("torch", model, self.manifest.input, dist.device)
        package = Package(run.out, self.manifest)
        self.pipeline = Pipeline(package, backend, SCORE_THRESHOLD)

    def evaluate(self) -> dict[str, PerceptionMetric]:
        """Compute the metrics by modality, over all ranks, which call this together.

        Raises:
            Stopped: on all ranks, where a signal asked any of them to stop.
        """
        metrics = {mode: metric_for(self.manifest) for mode in MODALITIES}
        with evaluating(self.model):
            for index in track(self.frames, "validate") if self.dist.first else self.frames:
                if self.stop:
                    break
                evaluate_frame(self.pipeline, mask_returns(self.source[index]), metrics)
        if any_rank(bool(self.stop)):
            raise Stopped(self.stop.signal or SIGTERM)
        return _over_ranks(metrics)


def score_of(metric: PerceptionMetric) -> float:
    """Return one number in [0, 1] to compare weights by.

    It is the mean of BEV mAP (AP50 of 2D boxes), of the share of depths within a factor of 1.25,
    and of mIoU, as far as there is such truth; NaN without any.
    """
    one = metric.summary()
    parts = np.array([one.bev_map, one.ap50, metric.depth.scores().delta, one.miou])
    known = parts[~np.isnan(parts)]
    return float(known.mean()) if len(known) else float("nan")


def scalars(metrics: Mapping[str, PerceptionMetric]) -> dict[str, float]:
    """Return numbers for the log, ``MODALITY_METRIC``, without those that have no truth."""
    numbers = {}
    for mode, metric in metrics.items():
        for name, value in asdict(metric.summary()).items():
            if name in SHOWN and not np.isnan(value):
                numbers[f"{mode}_{name}"] = float(value)
    return numbers


def describe(metrics: Mapping[str, PerceptionMetric]) -> str:
    """Return the metrics as text."""
    numbers = scalars(metrics)
    lines, width = [], max(map(len, metrics), default=0)
    for mode in metrics:
        own = {name: numbers.get(f"{mode}_{name}") for name in SHOWN}
        shown = [SHOWN[name].format(value) for name, value in own.items() if value is not None]
        lines.append(f"  {mode:{width}s}  {'  '.join(shown)}")
    return "\n".join(lines)


def _over_ranks(metrics: dict[str, PerceptionMetric]) -> dict[str, PerceptionMetric]:
    if world_size() == 1:
        return {mode: metric for mode, metric in metrics.items() if metric.frames}
    parts: list[dict[str, PerceptionMetric]] = [{}] * world_size()
    distributed.all_gather_object(parts, metrics)
    first, *rest = parts
    for mode, metric in first.items():
        for other in rest:
            metric.merge(other[mode])
    return {mode: metric for mode, metric in first.items() if metric.frames}
