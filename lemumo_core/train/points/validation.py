"""Validation of a point segmenter on whole sweeps."""

from __future__ import annotations

from signal import SIGTERM

import torch
from torch import distributed

from lemumo_core.distributed import world_size
from lemumo_core.methods.method import evaluating
from lemumo_core.metrics.points import PointMetric, horizontal_range
from lemumo_core.model.sparse.segmenter import PointSegmenter
from lemumo_core.progress import track
from lemumo_core.signals import Stopped
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import any_rank


class PointValidation:
    """Evaluates one model again and again on the validation frames.

    Args:
        run: whose validation frames these are; ranks share them.
        model: whose weights change in between.
    """

    def __init__(self, run: Run, model: PointSegmenter):
        self.model, self.samples, self.dist, self.stop = model, run.samples, run.dist, run.stop
        self.classes = run.config.model.segmentation_classes
        last = range(run.sampler.frames, run.sampler.frames + run.config.val_frames)
        self.frames = last[run.dist.rank :: run.dist.world]

    def evaluate(self) -> PointMetric:
        """Compute the metric over all ranks, which call this together.

        Raises:
            Stopped: on all ranks, where a signal asked any of them to stop.
        """
        metric = PointMetric(self.classes)
        with evaluating(self.model):
            for index in track(self.frames, "validate") if self.dist.first else self.frames:
                if self.stop:
                    break
                self._add(metric, index)
        if any_rank(bool(self.stop)):
            raise Stopped(self.stop.signal or SIGTERM)
        return _over_ranks(metric)

    @torch.no_grad()
    def _add(self, metric: PointMetric, index: int) -> None:
        batch = self.samples[index].to(self.dist.device)
        assert batch.points is not None and batch.sweep_labels is not None
        predicted, points = self.model.predict(batch.points)[0], batch.points[0]
        metric.add(
            predicted.cpu().numpy(),
            batch.sweep_labels[0].cpu().numpy(),
            horizontal_range(points.cpu().numpy()),
        )


def _over_ranks(metric: PointMetric) -> PointMetric:
    if world_size() == 1:
        return metric
    parts: list[PointMetric] = [metric] * world_size()
    distributed.all_gather_object(parts, metric)
    first, *rest = parts
    for other in rest:
        first.merge(other)
    return first
