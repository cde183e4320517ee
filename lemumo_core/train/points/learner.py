"""A point segmenter in training, with its optimiser and validation."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.samples import Batch
from lemumo_core.data.sweeps import sample_generators, sweep_points, turn_sweeps
from lemumo_core.frame import UNLABELLED
from lemumo_core.losses.loss import mean_of_valid
from lemumo_core.losses.lovasz import lovasz_softmax
from lemumo_core.methods.method import ParameterGroup
from lemumo_core.model.sparse.segmenter import PointSegmenter
from lemumo_core.train import checkpoint
from lemumo_core.train.best_weights import best_score, save_best
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.learner import FiniteUpdates, StepValues
from lemumo_core.train.loop import Run
from lemumo_core.train.optim import build_optimizer, learning_rate, set_learning_rate
from lemumo_core.train.parallel import data_parallel
from lemumo_core.train.points.config import PointsConfig
from lemumo_core.train.points.validation import PointValidation
from lemumo_core.train.points.weights import load_network
from lemumo_core.train.seeds import generator, seed_of


class PointStep(nn.Module):
    """The differentiable part of a step, in one ``forward`` as DDP needs it.

    Args:
        model: what learns.
        lovasz: weight of Lovász-softmax.
        probe: whether the head alone learns.
    """

    def __init__(self, model: PointSegmenter, lovasz: float, probe: bool):
        super().__init__()
        self.model, self.lovasz, self.probe = model, lovasz, probe

    def forward(self, points: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss over all ranks, and its terms.

        Args:
            points: float32 (B, M, 4).
            labels: uint8 (B, M), 255 = unlabelled.
        """
        logits, row = self.model(points, network_learns=not self.probe)
        there = (row >= 0).flatten()
        labels = torch.where(there, labels.flatten(), UNLABELLED)
        known = labels != UNLABELLED
        if len(logits):
            logits = logits[row.clamp(min=0).flatten()]
        else:  # no return in the whole batch
            logits = logits.new_zeros(len(labels), logits.shape[1]) + 0 * logits.sum()
        target = torch.where(known, labels.long(), 0)
        cross_entropy = functional.cross_entropy(logits, target, reduction="none")
        terms = {"cross_entropy": mean_of_valid(cross_entropy, known)}
        total = terms["cross_entropy"]
        if self.lovasz:
            terms["lovasz"] = lovasz_softmax(logits, labels)
            total = total + self.lovasz * terms["lovasz"]
        return total, {name: term.detach() for name, term in terms.items()}


class PointLearner:
    """The model in training, a ``Learner``.

    Args:
        run: of a ``PointsConfig``.
    """

    def __init__(self, run: Run):
        config: PointsConfig = run.config
        self.config, self.steps, self.dist, self.out = config, run.steps, run.dist, run.out
        probe = config.mode == "probe"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(config.seed, 0, "weights"))
            self.model = PointSegmenter(config.network, len(config.model.segmentation_classes))
        self.model.to(run.dist.device)
        self.model.network.requires_grad_(not probe)
        self.step = PointStep(self.model, config.lovasz, probe)
        self.parallel = data_parallel(self.step, config.scale, run.dist)
        rate = config.network_rate if config.weights else 1.0
        network = [p for p in self.model.named_parameters() if p[0].startswith("network.")]
        head = [p for p in self.model.named_parameters() if p[0].startswith("head.")]
        groups = [ParameterGroup(head)] + ([] if probe else [ParameterGroup(network, rate)])
        self.optimizer = build_optimizer(self.model, groups, config.optimizer)
        self.updates = FiniteUpdates(self.optimizer, config.optimizer.clip)
        self.validation = PointValidation(run, self.model) if config.val_frames else None
        self.best = -math.inf

    def load(self, path: Path) -> None:
        """See ``Learner``."""
        load_network(self.model, path)

    def learn(self, batch: Batch, step: int) -> StepValues:
        """See ``Learner``."""
        config, dist = self.config, self.dist
        assert batch.sweep_labels is not None
        lr = learning_rate(config.optimizer, step, self.steps)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad()
        points = sweep_points(batch, config.wedge_deg)
        if config.rotate:
            draw = generator(config.seed, step, "samples")
            points = turn_sweeps(points, sample_generators(draw, len(batch), dist.rank, dist.world))
        self.parallel.train()
        if config.mode == "probe":
            self.model.network.eval()
        total, terms = self.parallel(points, batch.sweep_labels)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        values = self.updates.backward(step, total, terms, learning)
        self.optimizer.step()
        values.known["lr"] = lr
        return values

    def due(self, done: int) -> bool:
        """See ``Learner``."""
        every = done % self.config.log.evaluate_every == 0 or done == self.steps
        return self.validation is not None and every

    def validate(self, done: int) -> dict[str, float]:
        """See ``Learner``."""
        assert self.validation is not None
        metrics, weights = self.validation.evaluate().result(), self.weights()
        score = metrics["miou"]
        if self.dist.first:
            print(
                f"validation after step {done}: mIoU {score:.3f}, "
                f"of one class everywhere {metrics['constant_miou']:.3f}"
            )
            if score > self.best:
                found = {"step": done, "score": score, "metrics": metrics}
                save_best(self.out, self.config, weights, found)
        self.best = max(self.best, score)
        return {"score": score}

    def weights(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        return checkpoint.model_tensors(self.model)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """See ``Learner``."""
        return checkpoint.training_tensors(self.model, self.optimizer)

    def restore(self, found: Checkpoint) -> None:
        """See ``Learner``."""
        checkpoint.load_training_tensors(self.model, self.optimizer, found)
        self.best = best_score(self.out)
