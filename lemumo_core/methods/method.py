"""The protocol of pretraining methods, all that trainer, probes and fine-tuning know of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import View
from lemumo_core.losses.loss import Loss
from lemumo_core.model.config import ModelConfig
from lemumo_core.preprocess import InputSpec

Draw = Callable[[str], torch.Generator]
"""A generator on the CPU for a purpose; a function of the run's seed and the step alone."""

FEATURE_MODALITIES = ("fused", "image", "companion")
"""Keys of ``Features``: all sensors that a sample has, the image alone, the companion alone."""


class Needs(NamedTuple):
    """Parts of samples that a method needs beside images, companions and intrinsics.

    Attributes:
        labels: ``Batch.labels``.
        points: ``Batch.points``, the whole sweep, with its pose and rows.
        beams: ``Batch.beams``, of each return.
    """

    labels: bool = False
    points: bool = False
    beams: bool = False


class Step(NamedTuple):
    """Outcome of the forward pass of a training step.

    Attributes:
        loss: total and terms over all ranks, the same on every rank.
        view: the view whose ``tokens`` online probes learn from; it brings the labels.
        tokens: (R, N, D) of the R rows of ``view``, row by row over its patch grid, detached; None
            unless dense.
        monitored: detached tensors for ``Method.monitors``.
    """

    loss: Loss
    view: View | None = None
    tokens: Tensor | None = None
    monitored: Mapping[str, Tensor] = {}


class ModalityFeatures(NamedTuple):
    """Frozen features of B samples.

    Attributes:
        tokens: float (B, N, D), row by row over the patch grid of the canvas.
        pooled: float (B, D'), one vector a sample.
        valid: bool (B, N), which tokens mean anything: the modality is there, and for a network
            on points, something was hit.
    """

    tokens: Tensor
    pooled: Tensor
    valid: Tensor


Features = Mapping[str, ModalityFeatures]
"""By modality, keys of ``FEATURE_MODALITIES``; a method leaves out what it cannot give."""


class ParameterGroup(NamedTuple):
    """Parameters that learn alike.

    Attributes:
        parameters: names (as in ``named_parameters``) and parameters.
        rate: what the learning rate is multiplied by.
        decay: what the weight decay is multiplied by.
    """

    parameters: Sequence[tuple[str, nn.Parameter]]
    rate: float = 1.0
    decay: float = 1.0


class Units(NamedTuple):
    """Parts of a method that memory and compilation treat one by one.

    Attributes:
        blocks: modules of which each is sharded by itself and recomputed in the backward pass;
            every use of their weights goes through their ``forward``, and they hold no batch norm.
        networks: modules that are compiled as wholes, by their ``compile``. Their random draws on
            the CPU are operators of their own (``torch.library.custom_op``).
    """

    blocks: Sequence[nn.Module] = ()
    networks: Sequence[nn.Module] = ()


class Method(nn.Module, ABC):
    """Networks, views and loss of one pretraining method.

    Everything in it is trained, saved and sharded as one module. A forward pass draws random
    numbers from torch's global generator, which the trainer seeds at every step, or from ``Draw``;
    it never waits for the device (no ``.item()``, ``nonzero`` or indexing by a mask). ``views``
    may, where numbers of voxels or pairs are shapes.

    Attributes:
        token_dim: D of the ``fused`` tokens of ``features`` and of ``Step.tokens``.
    """

    token_dim: int

    def initialize(self) -> None:
        """Load weights of others that the options name.

        This is called where a run begins, and not where a method's own weights are read: those do
        not need these files.
        """

    @abstractmethod
    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> Any:
        """Cut what a step needs from a batch.

        Args:
            batch: B samples, this rank's share of a batch of world x B.
            draw: gives the generators of this step. Draws are those of the whole batch, so that
                ranks together cut the views that one rank would.
            rank: which share.
            world: number of shares.

        Returns:
            The argument of ``forward``.
        """

    @abstractmethod
    def forward(self, views: Any, step: int, dense: bool = False) -> Step:
        """Compute the loss of a step.

        Args:
            views: of ``views``.
            step: number of the step, from 0.
            dense: whether ``Step.tokens`` are asked for.

        Returns:
            The step. On W ranks the mean of the ranks' gradients is the gradient of the whole
            batch's loss (``lemumo_core.distributed``).
        """

    @abstractmethod
    def features(self, batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
        """Compute frozen features of whole samples, in evaluation mode and without gradient.

        Args:
            batch: B samples.
            modalities: which features are asked for.

        Returns:
            Those that the method can give.
        """

    def after_step(self, step: int, steps: int) -> None:
        """Follow the optimiser's step: moving averages of teachers and codebooks.

        It follows steps that are finite. To know that, the trainer waits for the device at each
        step of a method that has its own.

        Args:
            step: number of the step, from 0.
            steps: of the whole run.
        """

    def after_load(self, parts: Collection[str]) -> None:
        """Follow weights that a run begins with (``--weights``).

        Args:
            parts: the method's submodules that these weights had; others are random.
        """

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return all that learns, once, in the order in which gradient norms are summed."""
        learning = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        return [ParameterGroup(learning)]

    def units(self) -> Units:
        """Return the parts for sharding, recomputation and compilation."""
        return Units()

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """Compute scalars for the log, such as signs of collapse.

        All ranks call this together, after the backward pass of ``outcome`` and before the
        optimiser's step, every ``log.monitor_every`` steps. It changes nothing: no weight,
        statistic, mode or random number.
        """
        return {}

    def report(self, batches: Iterable[Batch]) -> list[str]:
        """Describe what was learnt, for a page that people look at after a run.

        Args:
            batches: samples, on the device of the weights.

        Returns:
            Parts of the page, HTML (``lemumo_core.web_page``); none for no page.
        """
        return []

    def exported(self) -> tuple[ModelConfig, dict[str, Tensor]] | None:
        """Return what fine-tuning starts from.

        Returns:
            The model and weights by their names in ``PerceptionModel``: all of ``encoder``, and
            perhaps all of ``neck`` and ``depth``. None where a method has no such encoder.
        """
        return None


class MethodOptions:
    """Base of a method's options, a frozen dataclass: ``--method NAME --method.OPTION VALUE``.

    The class's name is the method's.
    """

    @property
    def needs(self) -> Needs:
        """Data that samples must carry, known before any network is built."""
        return Needs()

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> MethodOptions:
        """Return the options with what depends on the run filled in.

        Raises:
            ValueError: naming an option that does not fit the run, and what to do.
        """
        return self

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """Build the method of resolved options, with random weights from torch's global generator.

        Args:
            model: of the run; fine-tuning's default.
            canvas: of the samples.
        """
        raise NotImplementedError(f"{type(self).__name__} builds no method")


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which networks compute in bfloat16: on CUDA, and where it is on.

    On a CPU the trainer switches it on (``ScaleConfig.bfloat16``). Losses stay in float32.
    """
    cpu = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or cpu)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a module in evaluation mode for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
