"""A package's model that learns from a robot's own frames."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.pinned import to_device
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import View
from lemumo_core.distributed import BatchNorm2d
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import RawPerception, seeded_model
from lemumo_core.preprocess import Inputs
from lemumo_core.train import checkpoint
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.adapt.frames import AdaptationFrames
from lemumo_core.train.adapt.step import DepthStep
from lemumo_core.train.adapt.verdict import LABELLED, score_of, worse
from lemumo_core.train.best_weights import save_best
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.finetune.learner import FinetuneLearner
from lemumo_core.train.finetune.validation import Validation, describe, scalars
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.learner import Converged, StepValues
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import from_first
from lemumo_core.train.run_folder import read_metrics
from lemumo_core.train.seeds import generator
from lemumo_core.train.weights import read_weights

BEFORE = "before.json"
"""Metrics of the package, in the run's folder."""
LEAST_CONFIDENCE = 0.5
"""Confidence from which on depth with both sensors is truth for the camera alone."""


class AdaptLearner(FinetuneLearner):
    """The model in adaptation, a ``Learner``.

    The head of depth alone learns: what it shares with boxes and labels stays, or they drift within
    twenty steps. Depth of own views is what their LiDAR measured, masked returns included. Views
    that lose their LiDAR learn, where nothing was measured, what the package's model predicts with
    both sensors. Labelled views keep what depth has learnt of other streets. Batch norms keep their
    statistics: those of two kinds of frames in one batch are those of neither.

    Args:
        run: of an ``AdaptConfig``.

    Raises:
        Fault: ``bad_batch`` where ranks cannot have as many own frames as labelled ones.
    """

    config: AdaptConfig

    def __init__(self, run: Run):
        super().__init__(run)
        if run.config.batch // run.dist.world % 2:
            raise Fault(
                "bad_batch",
                f"a batch of {run.config.batch} on {run.dist.world} ranks gives each an odd share, "
                "and half of it are labelled frames: take another --batch",
            )
        package, frames = Path(run.config.weights), run.samples.source
        assert isinstance(frames, AdaptationFrames)
        self.teacher = seeded_model(run.config.model, 0).to(run.dist.device).requires_grad_(False)
        load_perception(self.teacher, package)
        _, options = read_weights(package)
        self.candidate = seeded_model(ModelConfig.from_dict(options or {}), 0).to(run.dist.device)
        self.validations = {
            "": Validation(run, self.candidate, frames.own_val),
            LABELLED: Validation(run, self.candidate, frames.labelled_val),
        }
        self.before: dict[str, Any] = {}
        self.since_best = 0

    def differentiable_step(self) -> nn.Module:
        """See ``FinetuneLearner``."""
        return DepthStep(self.model)

    def freeze(self) -> None:
        """See ``FinetuneLearner``."""
        self.model.requires_grad_(False)
        self.model.depth.requires_grad_(True)

    def load(self, path: Path) -> None:
        """Start from the package, and evaluate it."""
        super().load(path)
        if self.dist.first:
            print("validation of the package, on the own and the labelled frames kept apart")
        metrics = self.measure(self.config.blend)
        self.before = results_of(metrics)
        if self.dist.first:
            print(describe(metrics))
            write_whole(self.out / BEFORE, json.dumps(self.before).encode())

    def restore(self, found: Checkpoint) -> None:
        """See ``Learner``."""
        super().restore(found)
        self.before = json.loads((self.out / BEFORE).read_text())
        self.since_best = int(from_first(str(validations_since_best(self.out))))

    def learn(self, batch: Batch, step: int) -> StepValues:
        """See ``Learner``; the run ends where several validations found nothing better.

        Raises:
            Converged: as ``Learner.learn``.
        """
        if self.since_best >= self.config.patience:
            raise Converged
        return super().learn(batch, step)

    def set_modes(self, encoder_learns: bool) -> None:
        """See ``FinetuneLearner``; batch norms stay in evaluation mode."""
        super().set_modes(encoder_learns)
        for module in self.model.modules():
            if isinstance(module, BatchNorm2d):
                module.eval()

    def view(self, batch: Batch, step: int) -> View:
        """Cut the view of a step, complete its depth, and let samples lose a sensor."""
        whole = self.whole_view(batch, step)
        view = self.without_some_sensors(whole, len(batch), step)
        own = torch.arange(len(view.image), device=view.image.device) % 2 == 0
        alone = to_device(self._alone(len(batch), step), own.device) & (whole.present > 0.5).all(1)
        kept = torch.stack([torch.ones_like(alone), ~alone], dim=1).float()
        present = torch.where((own | alone)[:, None], whole.present * kept, view.present)
        labels = whole.labels
        assert labels is not None and labels.masked is not None
        depth_m = labels.depth_m.where(~labels.depth_m.isnan(), labels.masked[:, 0])
        if (taught := own & alone).any():
            inputs = Inputs(*(x[taught] for x in whole.inputs))
            depth_m[taught] = completed(depth_m[taught], self.predict(self.teacher, inputs))
        return replace(whole, present=present, labels=replace(labels, depth_m=depth_m))

    def validate(self, done: int) -> dict[str, float]:
        """See ``Learner``; where something becomes worse, half of ``blend`` is tried, too."""
        for share in (self.config.blend, self.config.blend / 2):
            if self.dist.first:
                print(f"validation after step {done}, blend {share:g}")
            metrics = self.measure(share)
            results = results_of(metrics)
            if not worse(self.before, results):
                break
        score, weights = score_of(self.before, results), checkpoint.model_tensors(self.candidate)
        if self.dist.first:
            print(f"after step {done}: score {score:.3f}\n{describe(metrics)}")
            if score > self.best:
                found = {"step": done, "score": score, "metrics": results}
                save_best(self.out, self.config, weights, found)
        self.since_best = 0 if score > self.best else self.since_best + 1
        self.best = max(self.best, score)
        return {"score": score, "blend": share, **scalars(metrics)}

    def measure(self, share: float) -> dict[str, PerceptionMetric]:
        """Blend the weights, and compute metrics by modality, of labelled frames by ``LABELLED``.

        What is evaluated, and kept where it is best, lies on the line from the package's weights to
        the learnt ones (arXiv 2109.01903), in the package's own view.

        Args:
            share: how far from the package's.
        """
        learnt = self.model.state_dict()
        blended = {
            name: old.lerp(learnt[name], share) if old.is_floating_point() else learnt[name]
            for name, old in self.teacher.state_dict().items()
        }
        self.candidate.load_state_dict(blended)
        return {
            prefix + mode: metric
            for prefix, validation in self.validations.items()
            for mode, metric in validation.evaluate().items()
        }

    def _alone(self, samples: int, step: int) -> Tensor:
        """Return which of this rank's samples lose their LiDAR, bool (B,)."""
        draw = torch.rand(
            self.dist.world * samples, generator=generator(self.config.seed, step, "camera only")
        )
        return (draw < self.config.camera_only).view(self.dist.world, -1)[self.dist.rank]


def completed(measured_m: Tensor, taught: RawPerception) -> Tensor:
    """Return measured depth, and that of the teacher in cells where nothing was measured.

    Args:
        measured_m: (R, H, W), metres, NaN where unknown.
        taught: the teacher's, of R views with both sensors.

    Returns:
        (R, H, W), metres, NaN where the teacher is not sure.
    """
    depth_m, confidence = taught.depth_m, taught.depth_confidence
    if taught.refined is not None:
        depth_m, confidence = taught.refined.depth_m, taught.refined.confidence
    confident_m = depth_m.float().where(confidence > LEAST_CONFIDENCE, math.nan)
    taught_m = functional.interpolate(confident_m[:, None], measured_m.shape[1:])
    measured = (~measured_m.isnan()).float()[:, None]
    cells = functional.adaptive_max_pool2d(measured, taught.depth_m.shape[1:])
    empty = functional.interpolate(cells, measured_m.shape[1:]) == 0
    return torch.where(empty, taught_m, measured_m[:, None])[:, 0]


def results_of(metrics: dict[str, PerceptionMetric]) -> dict[str, Any]:
    """Return the metrics by name, as JSON values."""
    return {name: metric.result() for name, metric in metrics.items()}


def validations_since_best(out: Path) -> int:
    """Return how many validations, the latest ones, found no better score."""
    scores = [line["score"] for line in read_metrics(out) if "score" in line]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0
