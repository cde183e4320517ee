"""What learns: the encoder with its optimiser, and the probes and monitors that watch it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lemumo_core.data.views import View
from lemumo_core.methods.lemumo.depth_branch import DepthBranch
from lemumo_core.methods.lemumo.monitors import Monitors
from lemumo_core.methods.lemumo.step import Encoded, TrainingStep
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.variants import build_encoder
from lemumo_core.train import checkpoint
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.finetune.weights import BRANCH, read_weights
from lemumo_core.train.learner import backward
from lemumo_core.train.optim import build_optimizer, learning_rate, set_learning_rate
from lemumo_core.train.parallel import Place, data_parallel, prepare_encoder
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.probes import Probes
from lemumo_core.train.seeds import seed_of


class Pretrainer:
    """The encoder in training, a ``Learner``.

    Args:
        config: of the run.
        steps: of the whole run.
        place: of this process.
    """

    def __init__(self, config: PretrainConfig, steps: int, place: Place):
        self.config, self.steps, self.place = config, steps, place
        self.encoder = seeded_encoder(config).to(place.device)
        prepare_encoder(self.encoder, config.scale, place)
        views = config.views.global_views
        objective = config.objective
        self.step = TrainingStep(
            self.encoder,
            objective.build(views),
            views,
            objective.build_for_tokens(views),
            objective.build_for_returns(config.canvas_spec.depth_max_m),
        )
        self.model = data_parallel(self.step, config.scale, place)
        self.optimizer = build_optimizer(self.encoder, config.optimizer)
        self.monitors = Monitors(self.encoder, views)
        self.probes: Probes | None = None
        if config.log.probes:
            classes = len(config.model.segmentation_classes)
            self.probes = Probes(config.model.token_dim, classes).to(place.device)

    def load(self, path: Path) -> None:
        """See ``Learner``."""
        tensors, _ = read_weights(path)
        # Of two runs one may tell returns and the other not: the rest is the same.
        own = {n: t for n, t in self.weights().items() if n.startswith(BRANCH)}
        kept = {n: t for n, t in tensors.items() if n in own or not n.startswith(BRANCH)}
        checkpoint.load_model_tensors(self.encoder, own | kept, path)

    def loss(self, views: tuple[View, ...], step: int) -> tuple[Tensor, dict[str, Tensor], Encoded]:
        """Loss, its terms, and what the encoder made of the global views."""
        # Masks of stochastic depth: those of the step, on every device.
        torch.manual_seed(seed_of(self.config.seed, step, "paths"))
        self.model.train()
        loss, encoded = self.model(views, step, dense=self.probes is not None)
        return loss.total, loss.terms, encoded

    def learn(self, views: tuple[View, ...], step: int) -> dict[str, float]:
        """See ``Learner``."""
        lr = learning_rate(self.config.optimizer, step, self.steps)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad()
        total, terms, encoded = self.loss(views, step)
        clip = self.config.optimizer.clip
        values = backward(total, terms, self.encoder.parameters(), clip)
        values["lr"] = lr
        observing = step % self.config.log.monitor_every == 0 or step == self.steps - 1
        if observing:  # the weights that gave this loss
            values |= self.monitors.observe(step, views[0], encoded.embeddings, encoded.projections)
        self.optimizer.step()
        if self.probes is not None:
            losses = self.probes.step(encoded.tokens, views[0])
            if observing:
                values |= {name: float(value) for name, value in losses.items()}
        return values

    def weights(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        return checkpoint.model_tensors(self.encoder)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """See ``Learner``."""
        tensors = {
            checkpoint.MODEL: self.weights(),
            checkpoint.OPTIMIZER: checkpoint.optimizer_tensors(self.encoder, self.optimizer),
        }
        if self.probes is not None:
            tensors[checkpoint.PROBES] = checkpoint.model_tensors(self.probes)
            tensors[checkpoint.PROBES_OPTIMIZER] = checkpoint.optimizer_tensors(
                self.probes, self.probes.optimizer
            )
        return tensors

    def restore(self, found: Checkpoint) -> None:
        """See ``Learner``."""
        checkpoint.load_model_tensors(self.encoder, found.tensors(checkpoint.MODEL), found.path)
        checkpoint.load_optimizer_tensors(
            self.encoder, self.optimizer, found.tensors(checkpoint.OPTIMIZER)
        )
        if self.probes is not None and checkpoint.PROBES in found.names:
            probes = found.tensors(checkpoint.PROBES)
            checkpoint.load_model_tensors(self.probes, probes, found.path)
            checkpoint.load_optimizer_tensors(
                self.probes, self.probes.optimizer, found.tensors(checkpoint.PROBES_OPTIMIZER)
            )


def seeded_encoder(config: PretrainConfig) -> Encoder:
    """The untrained encoder of a run, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, 0, "weights"))
        encoder = build_encoder(config.model)
        if config.objective.returns:
            height, width = config.views.global_size
            views = replace(config.model, height=height, width=width)
            encoder.depth_branch = DepthBranch(views, encoder.stems.modalities)
        return encoder
