"""A method in training, with its optimiser and online probes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.distributed import gather_rows
from lemumo_core.methods.method import Method, Step
from lemumo_core.metrics.collapse import position_share, sample_cosine_margin
from lemumo_core.train import checkpoint
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.learner import FiniteUpdates, StepValues
from lemumo_core.train.optim import build_optimizer, learning_rate, set_learning_rate
from lemumo_core.train.parallel import DistInfo, cpu_autocast, data_parallel, prepare
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.online_probes import OnlineProbes
from lemumo_core.train.seeds import generator, seed_of
from lemumo_core.train.weights import read_tensors

MONITORED = 32

log = logging.getLogger(__name__)


class PretrainLearner:
    """A method in training, a ``Learner``.

    Args:
        config: the configuration of the run.
        steps: number of steps of the whole run.
        dist: this process among the ranks.
    """

    def __init__(self, config: PretrainConfig, steps: int, dist: DistInfo):
        self.config, self.steps, self.dist = config, steps, dist
        self.method = seeded_method(config).to(dist.device)
        prepare(self.method, self.method.units(), config.scale, dist)
        self.model = data_parallel(self.method, config.scale, dist)
        groups = self.method.parameter_groups()
        self.parameters = [parameter for group in groups for _, parameter in group.parameters]
        self.optimizer = build_optimizer(self.method, groups, config.optimizer)
        self.updates = FiniteUpdates(self.optimizer, config.optimizer.clip)
        self.probes: OnlineProbes | None = None
        if config.log.probes:
            classes = len(config.model.segmentation_classes)
            self.probes = OnlineProbes(self.method.token_dim, classes).to(dist.device)

    def load(self, path: Path) -> None:
        """See ``Learner``.

        Parts that one of the two methods does not have, such as a projector, are left out, or as
        random as they are, and named in the log.
        """
        tensors, own = read_tensors(path), self.weights()
        parts = {name.split(".")[0] for name in tensors}
        mine = {name.split(".")[0] for name in own}
        if parts & mine and parts != mine and self.dist.first:
            log.warning(
                "%s and this run share %s; %s there is not used, %s here starts from random",
                *(path, *(_listed(names) for names in (parts & mine, parts - mine, mine - parts))),
            )
        kept = {n: t for n, t in own.items() if n.split(".")[0] not in parts}
        kept |= {n: t for n, t in tensors.items() if n.split(".")[0] in mine or not parts & mine}
        checkpoint.load_model_tensors(self.method, kept, path)
        self.method.after_load(parts & mine)

    def views(self, batch: Batch, step: int) -> Any:
        """Cut the views of a step."""

        def draw(purpose: str) -> torch.Generator:
            return generator(self.config.seed, step, purpose)

        return self.method.views(batch, draw, self.dist.rank, self.dist.world)

    def forward(self, views: Any, step: int) -> Step:
        """Run the forward pass of a step."""
        # Masks of stochastic depth: those of the step, on every device.
        torch.manual_seed(seed_of(self.config.seed, step, "paths"))
        self.model.train()
        with cpu_autocast(self.config.scale, self.dist):
            outcome: Step = self.model(views, step, dense=self.probes is not None)
        return outcome

    def learn(self, batch: Batch, step: int) -> StepValues:
        """See ``Learner``.

        The device is waited for where monitors are due, and before a method's ``after_step``: what
        is not finite must not reach its teacher or codebook.
        """
        config = self.config
        lr = learning_rate(config.optimizer, step, self.steps, config.whole_epochs)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad()
        outcome = self.forward(self.views(batch, step), step)
        values = self.updates.backward(step, *outcome.loss, self.parameters)
        values.known["lr"] = lr
        observing = step % config.log.monitor_every == 0 or step == self.steps - 1
        follows = type(self.method).after_step is not Method.after_step
        if observing or follows:
            values.read()
        if observing:  # the weights that gave this loss
            values.known |= self.method.monitors(outcome, step)
            if outcome.tokens is not None:
                values.known |= position_monitors(outcome.tokens)
        self.optimizer.step()
        self.method.after_step(step, self.steps)
        if self.probes is not None and outcome.tokens is not None and outcome.view is not None:
            losses = self.probes.step(outcome.tokens, outcome.view)
            if observing:
                values.known |= {name: float(value) for name, value in losses.items()}
        return values

    def due(self, done: int) -> bool:
        """Validate nothing: probes are compared after the run."""
        return False

    def validate(self, done: int) -> dict[str, float]:
        """See ``due``."""
        return {}

    def weights(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        return checkpoint.model_tensors(self.method)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """See ``Learner``."""
        tensors = checkpoint.training_tensors(self.method, self.optimizer)
        if self.probes is not None:
            tensors[checkpoint.PROBES] = checkpoint.model_tensors(self.probes)
            tensors[checkpoint.PROBES_OPTIMIZER] = checkpoint.optimizer_tensors(
                self.probes, self.probes.optimizer
            )
        return tensors

    def restore(self, found: Checkpoint) -> None:
        """See ``Learner``."""
        checkpoint.load_training_tensors(self.method, self.optimizer, found)
        if self.probes is not None and checkpoint.PROBES in found.names:
            probes = found.tensors(checkpoint.PROBES)
            checkpoint.load_model_tensors(self.probes, probes, found.path)
            checkpoint.load_optimizer_tensors(
                self.probes, self.probes.optimizer, found.tensors(checkpoint.PROBES_OPTIMIZER)
            )


def position_monitors(tokens: Tensor) -> dict[str, float]:
    """Return how far tokens (R, N, D) of all ranks are a code of their position.

    Returns:
        ``position_share`` and ``sample_cosine_margin`` (``metrics.collapse``), the latter where
        there are two positions; of at most ``MONITORED`` rows a rank.
    """
    rows = gather_rows(tokens[:MONITORED].detach().float()).cpu().numpy()
    scalars = {"position_share": position_share(rows)}
    if rows.shape[1] > 1:
        scalars["sample_cosine_margin"] = sample_cosine_margin(rows)
    return scalars


def seeded_method(config: PretrainConfig) -> Method:
    """Build the untrained method of a run, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, 0, "weights"))
        method = config.method.build(config.model, config.canvas_spec)
        method.initialize()
        return method


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
