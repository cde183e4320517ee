"""The differentiable part of a step of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lemumo_core.data.views import View
from lemumo_core.losses.distillation import boxes_apart, labels_apart
from lemumo_core.methods.method import mixed_precision
from lemumo_core.model.perception import PerceptionModel, RawPerception
from lemumo_core.train.finetune.config import LossConfig


@dataclass(frozen=True, eq=False)
class TaughtView(View):
    """A view, and what a teacher predicts for it with both sensors.

    Attributes:
        taught: predictions of the teacher for the R rows.
        held: bool (R,), rows whose boxes and labels are held near these.
    """

    taught: RawPerception
    held: Tensor


class FinetuningStep(nn.Module):
    """The differentiable part of a step, in one ``forward`` as DDP needs it.

    The model computes in ``mixed_precision``, the losses in float32.

    Args:
        model: what learns.
        config: weights of the losses.
        refinement_alone: whether the depth refinement alone learns: the other losses are left out.
    """

    def __init__(self, model: PerceptionModel, config: LossConfig, refinement_alone: bool = False):
        super().__init__()
        self.model, self.weights, self.refinement_alone = model, config, refinement_alone

    def forward(self, view: View, encoder_learns: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a step, over all ranks, and its terms."""
        with mixed_precision(view.image.device):
            with torch.set_grad_enabled(encoder_learns and torch.is_grad_enabled()):
                seen = self.model.reduced(view.inputs)
                tokens = self.model.encoder(seen).tokens
            raw = self.model.heads(tokens, seen, view.inputs)
        with torch.autocast(view.image.device.type, enabled=False):
            total, terms = self._of_labels(raw, view)
            if isinstance(view, TaughtView):
                apart, more = self._of_teacher(raw, view)
                total, terms = total + apart, terms | more
        return total, terms

    def _of_labels(self, raw: RawPerception, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the tasks' losses, and by name these and their terms."""
        assert view.labels is not None
        if self.refinement_alone:
            assert raw.refined is not None
            losses = self.model.refinement_losses(raw.refined, view.labels)
        else:
            losses = self.model.losses(raw, view.labels, view.intrinsics, self.weights.balance)
        total = torch.stack([getattr(self.weights, n) * loss.total for n, loss in losses.items()])
        terms = {name: loss.total.detach() for name, loss in losses.items()}
        for loss in losses.values():
            terms |= {name: value for name, value in loss.terms.items() if name not in terms}
        return total.sum(), terms

    def _of_teacher(self, raw: RawPerception, view: TaughtView) -> tuple[Tensor, dict[str, Tensor]]:
        """Return how far boxes and labels are from the teacher's, weighted, and by name."""
        own, taught, weights = raw.detections, view.taught.detections, self.weights
        boxes = boxes_apart(own.heatmap, own.regressed, taught.heatmap, taught.regressed, view.held)
        labels = labels_apart(raw.segmentation, view.taught.segmentation, view.held)
        apart = weights.detection * boxes + weights.segmentation * labels
        terms = {"boxes_apart": boxes.detach(), "labels_apart": labels.detach()}
        return weights.consistency * apart, terms
