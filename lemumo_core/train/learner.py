"""The interface between the training loop and what it trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from lemumo_core.data.samples import Batch
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.parallel import full


class NonFinite(RuntimeError):
    """A step whose loss or gradient is not finite; no weight was changed by it.

    Attributes:
        values: what the step would have logged.
    """

    def __init__(self, values: dict[str, float]):
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        super().__init__(f"not finite: {', '.join(wrong)}")
        self.values = values


class Converged(Exception):
    """A learner that stops gaining ends its run before the last step."""


class Learner(Protocol):
    """A model in training. All ranks call each of these together."""

    def load(self, path: Path) -> None:
        """Start from the weights of ``RunConfig.weights``, or of a captured step.

        Raises:
            Fault: ``bad_checkpoint``, ``wrong_weights``.
            FileNotFoundError: nothing there.
        """
        ...

    def learn(self, batch: Batch, step: int) -> dict[str, float]:
        """Train one step on this rank's share of a batch.

        Returns:
            Numbers for the log, the same on all ranks.

        Raises:
            NonFinite: before the optimiser's step.
            Converged: on all ranks, likewise, where the run is to end here.
        """
        ...

    def validate(self, done: int) -> dict[str, float]:
        """Score the weights after so many steps, where that is due.

        Returns:
            Numbers for the log, the same on all ranks.

        Raises:
            Stopped: on all ranks, where a signal asked any of them to stop.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return the weights and buffers of what is trained."""
        ...

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all that a checkpoint holds, the weights under ``checkpoint.MODEL``."""
        ...

    def restore(self, found: Checkpoint) -> None:
        """Restore what ``tensors`` returned."""
        ...


def backward(
    total: Tensor, terms: Mapping[str, Tensor], parameters: Iterable[nn.Parameter], clip: float
) -> dict[str, float]:
    """Compute the gradients of a loss, and clip them.

    Args:
        total: the loss.
        terms: of it, for the log.
        parameters: whose gradients are clipped.
        clip: largest norm of their gradient; 0 does not clip.

    Returns:
        ``loss``, its terms and ``gradient_norm``.

    Raises:
        NonFinite: one of these is not finite.
    """
    total.backward()
    norm = full(torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf))
    scalars = {"loss": total.detach(), **terms, "gradient_norm": norm}
    # One wait for the device a step.
    numbers = torch.stack([value.float() for value in scalars.values()]).tolist()
    values = dict(zip(scalars, numbers, strict=True))
    if not all(map(math.isfinite, numbers)):
        raise NonFinite(values)
    return values
