"""The differentiable part of a step of adaptation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.data.views import View
from lemumo_core.methods.method import mixed_precision
from lemumo_core.model.perception import PerceptionModel


class DepthStep(nn.Module):
    """The loss of the head of depth, in one ``forward`` as DDP needs it.

    Nothing else is computed: encoder and neck are left as they are, and so is all that they tell
    boxes, labels and the refinement of depth.

    Args:
        model: whose head of depth learns.
    """

    def __init__(self, model: PerceptionModel):
        super().__init__()
        self.model = model

    def forward(self, view: View, encoder_learns: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a step, over all ranks, and its terms."""
        assert view.labels is not None and not encoder_learns
        model = self.model
        with mixed_precision(view.image.device):
            with torch.no_grad():
                seen = model.reduced(view.inputs)
                features = model.neck(model.encoder(seen).tokens, seen)
            depth_m, confidence = model.depth(features)
        with torch.autocast(view.image.device.type, enabled=False):
            loss = model.depth.loss(model.config.input_spec.depth_max_m)
            found = loss(depth_m, confidence, view.labels.depth_m)
        return found.total, {**found.terms, "depth": found.total.detach()}
