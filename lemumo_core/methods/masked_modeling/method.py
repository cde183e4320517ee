"""Masked modelling as a ``Method``: a part of what the sensors saw tells the rest.

After MultiMAE (arXiv 2204.01678), with this project's encoders in place of one ViT on the visible
tokens of all modalities. The defaults are our recipe; MultiMAE's own is::

    --method.keep 0.25 --method.normalize_patches true --method.linear_head false
    --method.shown_weight 0 --method.token_visreg 0
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lemumo_core.data.samples import Batch
from lemumo_core.methods.encoder_method import EncoderMethod, EncoderOptions
from lemumo_core.methods.masked_modeling.masking import check_maskable
from lemumo_core.methods.masked_modeling.objective import Masked, MaskedObjective
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.methods.method import Draw, Method, Step, Units
from lemumo_core.model.config import ModelConfig
from lemumo_core.preprocess import InputSpec


@dataclass(frozen=True)
class MaskedModeling(MaskingOptions, EncoderOptions):
    """Masked modelling of image and companion together (MultiMAE, arXiv 2204.01678)."""

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> MaskedModeling:
        """Return the options with ``size`` filled in; ValueError for variant ``early``."""
        check_maskable(model)
        return self.sized(canvas)

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        return MaskedModelingMethod(self, model)


class MaskedModelingMethod(EncoderMethod):
    """An encoder that sees some cells of a view, and a decoder that reconstructs all of it.

    Args:
        options: resolved options.
        model: whose encoder is trained.
    """

    def __init__(self, options: MaskedModeling, model: ModelConfig):
        super().__init__(options, model)
        modalities = self.encoder.modalities
        self.objective = MaskedObjective(options, model, modalities)

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> Masked:
        """Cut one view of each sample, and draw its masks."""
        return self.objective.views(batch, draw, rank, world)

    def forward(self, views: Masked, step: int, dense: bool = False) -> Step:
        """See ``Method``. Online probes see the whole view, in a pass of their own."""
        # As a tensor, the number of the step is no constant of a compiled graph.
        loss = self.objective(self.encoder, views, torch.tensor(step))
        return Step(loss, views.view, self.frozen_tokens(views.view) if dense else None)

    def units(self) -> Units:
        """Return the encoder's blocks, and encoder with loss to compile."""
        return Units(self.encoder.units(), (self.objective,))
