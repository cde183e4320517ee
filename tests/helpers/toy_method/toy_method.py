"""A third party's method: the embedding of one view predicts a moving average's of the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss

from lemumo_core.data.views import MultiCrop, MultiCropConfig, clean_view, transpose_rows
from lemumo_core.distributed import mean_over_ranks
from lemumo_core.losses.loss import Loss
from lemumo_core.methods.method import Method, MethodOptions, ModalityFeatures, Step, Units
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs

TWO_VIEWS = MultiCropConfig(local_views=0, global_size=(32, 32))


@dataclass(frozen=True)
class Toy(MethodOptions):
    """Options: ``momentum`` of the teacher, and ``views``, two of each sample."""

    momentum: float = 0.9
    views: MultiCropConfig = TWO_VIEWS

    def build(self, model, canvas):
        return ToyMethod(self, model)


class ToyMethod(Method):
    def __init__(self, options, model):
        super().__init__()
        self.options, self.model, self.token_dim = options, model, model.token_dim
        self.encoder = build_encoder(model)
        self.predictor = nn.Linear(model.token_dim, model.token_dim)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def views(self, batch, draw, rank, world):
        return MultiCrop(self.options.views)(batch, draw("views"), rank, world)[0]

    def forward(self, view, step, dense=False):
        self.teacher.eval()
        inputs = Inputs(*(transpose_rows(x, len(view.image) // 2) for x in view.inputs))
        cls, tokens = self.encoder(inputs, dense=dense)
        target = self.teacher(inputs, dense=False).cls.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        loss = mean_over_ranks(mse_loss(self.predictor(cls), target))
        tokens = transpose_rows(tokens.detach(), 2) if dense else None
        return Step(Loss(loss, {"prediction": loss.detach()}), view, tokens)

    @torch.no_grad()
    def features(self, batch, modalities=("fused",)):
        cls, tokens = self.teacher.eval()(clean_view(batch).inputs)
        return {"fused": ModalityFeatures(tokens, cls, torch.ones_like(tokens[..., 0]) > 0)}

    @torch.no_grad()
    def after_step(self, step, steps):
        for mine, learnt in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            mine.lerp_(learnt, 1 - self.options.momentum)

    def units(self):
        return Units(self.encoder.units(), (self.encoder,))

    def exported(self):
        return self.model, {f"encoder.{n}": x for n, x in self.teacher.state_dict().items()}
