"""A perception model in training, with its optimiser and validation."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from lemumo_core.data.modality_dropout import drop_modalities
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCrop, View
from lemumo_core.methods.method import ParameterGroup, Units, evaluating, mixed_precision
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel, RawPerception, seeded_model
from lemumo_core.preprocess import Inputs
from lemumo_core.train import checkpoint
from lemumo_core.train.best_weights import best_score, save_best
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.finetune.step import FinetuningStep, TaughtView
from lemumo_core.train.finetune.validation import Validation, describe, scalars, score_of
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.learner import FiniteUpdates, StepValues
from lemumo_core.train.loop import Run
from lemumo_core.train.optim import build_optimizer, learning_rate, set_learning_rate
from lemumo_core.train.parallel import cpu_autocast, data_parallel, prepare
from lemumo_core.train.seeds import generator, seed_of

CONV_STAGE = re.compile(r"\.(?:layer|block|patch_embed|norm|attention\.)([1-4])\.")
"""Stage of a ResNet's or Mix Transformer's parameter."""


class FinetuneLearner:
    """The model in training, a ``Learner``.

    Args:
        run: of a ``FinetuneConfig``.
    """

    def __init__(self, run: Run):
        config: FinetuneConfig = run.config
        self.config, self.steps, self.dist = config, run.steps, run.dist
        self.heads_only_steps = config.heads_only_steps(run.sampler.draws)
        self.model = seeded_model(config.model, seed_of(config.seed, 0, "weights"))
        self.model.to(run.dist.device)
        self.freeze()
        self.step = self.differentiable_step()
        units = Units(self.model.encoder.units(), (self.step,))
        prepare(self.model.encoder, units, config.scale, run.dist)
        decay = config.layer_decay if config.weights else 1.0
        groups = [
            ParameterGroup([(name, parameter)], layer_rate(name, config.model, decay))
            for name, parameter in self.model.named_parameters()
        ]
        self.optimizer = build_optimizer(self.model, groups, config.optimizer)
        self.updates = FiniteUpdates(self.optimizer, config.optimizer.clip)
        self._encoder_learns: bool | None = None
        self.validation = Validation(run, self.model) if config.val_frames else None
        self.out, self.best = run.out, -math.inf

    def differentiable_step(self) -> nn.Module:
        """Build what computes the loss of a view and its terms."""
        return FinetuningStep(self.model, self.config.losses, self.config.mode == "refinement")

    def freeze(self) -> None:
        """Exclude from learning what stays as it is."""
        if self.config.mode == "refinement":
            self.model.requires_grad_(False)
            self.model.get_submodule("refine").requires_grad_(True)

    def load(self, path: Path) -> None:
        """See ``Learner``."""
        load_perception(self.model, path)

    def view(self, batch: Batch, step: int) -> View:
        """Cut the view of a step, of which samples may lose a sensor.

        With ``losses.consistency`` these also learn what the model now predicts with both sensors.
        """
        whole = self.whole_view(batch, step)
        view = self.without_some_sensors(whole, len(batch), step)
        if not self.config.losses.consistency:
            return view
        lost = (view.present != whole.present).any(1)
        return TaughtView(**vars(view), taught=self.predict(self.model, whole.inputs), held=lost)

    def predict(self, model: PerceptionModel, inputs: Inputs) -> RawPerception:
        """Return what a model predicts, in evaluation mode."""
        cpu, gpu = cpu_autocast(self.config.scale, self.dist), mixed_precision(inputs.image.device)
        with torch.no_grad(), evaluating(model), cpu, gpu:
            return model.raw(inputs)

    def whole_view(self, batch: Batch, step: int) -> View:
        """Cut the view of a step, with both sensors."""
        draw = generator(self.config.seed, step, "views")
        (view,) = MultiCrop(self.config.multi_crop)(batch, draw, self.dist.rank, self.dist.world)
        return view

    def without_some_sensors(self, view: View, samples: int, step: int) -> View:
        """Let some of this rank's samples lose a sensor, by ``modality_dropout``."""
        rate, dist = self.config.modality_dropout, self.dist
        if rate:
            draw = generator(self.config.seed, step, "modality dropout")
            (view,) = drop_modalities([view], samples, rate, draw, dist.rank, dist.world)
        return view

    def learn(self, batch: Batch, step: int) -> StepValues:
        """See ``Learner``."""
        lr = learning_rate(self.config.optimizer, step, self.steps, self.config.whole_epochs)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad()
        total, terms = self.loss(self.view(batch, step), step)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        values = self.updates.backward(step, total, terms, learning)
        self.optimizer.step()
        values.known["lr"] = lr
        return values

    def due(self, done: int) -> bool:
        """See ``Learner``."""
        every = done % self.config.log.evaluate_every == 0 or done == self.steps
        return bool(self.config.val_frames) and every

    def validate(self, done: int) -> dict[str, float]:
        """See ``Learner``; the weights are kept if they are the best so far."""
        assert self.validation is not None
        metrics = self.validation.evaluate()
        score = score_of(metrics["fused"]) if "fused" in metrics else math.nan
        weights = self.weights()
        if self.dist.first:
            print(f"validation after step {done}: score {score:.3f}\n{describe(metrics)}")
            if score > self.best:
                results = {mode: metric.result() for mode, metric in metrics.items()}
                found = {"step": done, "score": score, "metrics": results}
                save_best(self.out, self.config, weights, found)
        self.best = max(self.best, score)
        return {"score": score, **scalars(metrics)}

    def loss(self, view: View, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a step and its terms."""
        learns = step >= self.heads_only_steps
        if learns != self._encoder_learns:
            self._encoder_learns = learns
            self.model.encoder.requires_grad_(learns)
            self.parallel = data_parallel(self.step, self.config.scale, self.dist)
        self.set_modes(learns)
        # Masks of stochastic depth: those of the step, on every device.
        torch.manual_seed(seed_of(self.config.seed, step, "paths"))
        with cpu_autocast(self.config.scale, self.dist):
            loss: tuple[Tensor, dict[str, Tensor]] = self.parallel(view, learns)
        return loss

    def set_modes(self, encoder_learns: bool) -> None:
        """Bring the parts that learn to training mode, the others to evaluation mode."""
        self.parallel.train()
        self.model.encoder.train(encoder_learns)
        if self.config.mode == "refinement":
            self.model.eval().get_submodule("refine").train()

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


def layer_rate(name: str, model: ModelConfig, decay: float) -> float:
    """Return the factor of the learning rate of a parameter of a ``PerceptionModel``.

    1 for the heads and the encoder's last norm, and times ``decay`` for each block from the last
    one on to the first, and once more for patch embeddings, tokens and positions (arXiv
    2106.08254). Of a ResNet or Mix Transformer a stage counts as a block.

    Args:
        name: of the parameter.
        model: whose parameter it is.
        decay: of a block relative to the next one.
    """
    parts = name.split(".")
    if model.backbone != "vit" and parts[0] == "encoder":
        stage = CONV_STAGE.search(name)
        return decay ** (5 - int(stage[1]) if stage else 5)
    if parts[0] != "encoder" or "norm" in parts[:-1]:
        return 1.0
    block = int(parts[parts.index("blocks") + 1]) if "blocks" in parts else -1
    return decay ** (model.depth - block)
