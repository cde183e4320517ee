"""The differentiable part of a step of adaptation: what it learns, and what it must not forget."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lemumo_core.data.views import View
from lemumo_core.losses.distillation import boxes_apart, labels_apart
from lemumo_core.model.perception import RawPerception
from lemumo_core.train.finetune.learner import FinetuningStep


@dataclass(frozen=True, eq=False)
class TaughtView(View):
    """A view, and what the package's model says of it with both sensors."""

    taught: RawPerception


class AdaptationStep(FinetuningStep):
    """A step whose boxes and labels stay near the package's, also where nothing is labelled."""

    def _weighted(self, raw: RawPerception, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of fine-tuning and of what differs from ``TaughtView.taught``."""
        assert isinstance(view, TaughtView)
        total, terms = super()._weighted(raw, view)
        own, taught = raw.detections, view.taught.detections
        boxes = boxes_apart(own.heatmap, own.regressed, taught.heatmap, taught.regressed)
        labels = labels_apart(raw.segmentation, view.taught.segmentation)
        terms |= {"boxes_apart": boxes.detach(), "labels_apart": labels.detach()}
        weights = self.weights
        return total + weights.detection * boxes + weights.segmentation * labels, terms
