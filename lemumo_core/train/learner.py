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
        step: its number.
        values: what the step would have logged.
    """

    def __init__(self, step: int, values: dict[str, float]):
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        super().__init__(f"step {step + 1} is not finite: {', '.join(wrong)}")
        self.step, self.values = step, values


class Converged(Exception):
    """A learner that stops gaining ends its run before the last step."""


class StepValues:
    """Numbers of a step for the log, which the device may still be computing.

    Args:
        step: number of the step.
        scalars: by name, of no dimension, on one device.
        known: numbers that the host has.

    Attributes:
        step, known: as given; ``known`` may be added to.
        finite: whether all scalars are, bool, on their device.
    """

    def __init__(
        self,
        step: int,
        scalars: Mapping[str, Tensor] | None = None,
        known: Mapping[str, float] | None = None,
    ):
        self.step, self.known = step, dict(known or {})
        self._names = tuple(scalars or {})
        numbers = torch.stack([x.float() for x in scalars.values()]) if scalars else torch.empty(0)
        self.finite = numbers.isfinite().all()
        # Into pinned memory, behind what computes them: the host does not wait.
        self._numbers = numbers.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event(blocking=True) if numbers.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> dict[str, float]:
        """Wait for the scalars, and for nothing that was launched after them.

        Raises:
            NonFinite: one of them is not finite.
        """
        if self._copied is not None:
            self._copied.synchronize()
        values = dict(zip(self._names, self._numbers.tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise NonFinite(self.step, values)
        return values | self.known


class Learner(Protocol):
    """A model in training. All ranks call each of these together."""

    def load(self, path: Path) -> None:
        """Start from the weights of ``RunConfig.weights``, or of a captured step.

        Raises:
            Fault: ``bad_checkpoint``, ``wrong_weights``.
            FileNotFoundError: nothing there.
        """
        ...

    def learn(self, batch: Batch, step: int) -> StepValues:
        """Train one step on this rank's share of a batch.

        Returns:
            Numbers for the log, the same on all ranks.

        Raises:
            NonFinite: on all ranks, of this step or of the one before (``FiniteUpdates``).
            Converged: on all ranks, before anything is learnt, where the run is to end here.
        """
        ...

    def due(self, done: int) -> bool:
        """Return whether ``validate`` is to be called after so many steps."""
        ...

    def validate(self, done: int) -> dict[str, float]:
        """Score the weights after so many steps.

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


class FiniteUpdates:
    """Gradients of losses, of which none that is not finite changes a weight.

    Nothing waits for the device. Where the loss or the gradient of a step is not finite, the device
    leaves the optimiser's step out, weights and state stay as they are: by ``found_inf``, which
    fused optimisers take for ``torch.amp.GradScaler``. The host reads the numbers of a step while
    the device computes the next one, and before that one's update is launched, so that no weight
    learns from a step after one that was not finite.

    Args:
        optimizer: whose ``step`` follows ``backward``: AdamW, fused, or ``optim.Lars``.
        clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float):
        self._optimizer, self._clip = optimizer, clip
        self._before: StepValues | None = None

    def backward(
        self,
        step: int,
        total: Tensor,
        terms: Mapping[str, Tensor],
        parameters: Iterable[nn.Parameter],
    ) -> StepValues:
        """Compute the gradients of a loss, and clip them.

        Args:
            step: number of the step.
            total: the loss.
            terms: of it, for the log.
            parameters: whose gradients are clipped.

        Returns:
            ``loss``, its terms and ``gradient_norm``.

        Raises:
            NonFinite: of the step before.
        """
        total.backward()
        norm = full(torch.nn.utils.clip_grad_norm_(parameters, self._clip or math.inf))
        values = StepValues(step, {"loss": total.detach(), **terms, "gradient_norm": norm})
        self._optimizer.found_inf = (~values.finite).to(torch.float32)  # type: ignore[attr-defined]
        if self._before is not None:
            self._before.read()
        self._before = values
        return values
