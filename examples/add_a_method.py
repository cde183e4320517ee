"""Pretrain by a method of your own: here, two crops of a sample shall agree (VICReg).

    python examples/add_a_method.py [options of lemumo pretrain, and --method.dimensions]

A package that names ``Agreement`` under the entry point group ``lemumo.methods`` makes it a method
of ``lemumo pretrain --method Agreement``.
"""

import sys
from dataclasses import dataclass

import torch

from lemumo_core.cli import main as lemumo
from lemumo_core.data.views import MultiCrop, MultiCropConfig, clean_view, transpose_rows
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.methods.method import Method, MethodOptions, ModalityFeatures, Step, evaluating
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs

CROPS = MultiCropConfig(global_views=2, local_views=0, global_size=(48, 96))


class AgreementMethod(Method):
    """An encoder whose CLS tokens agree over two crops."""

    def __init__(self, options, model):
        super().__init__()
        self.options, self.model, self.token_dim = options, model, model.token_dim
        self.encoder, self.crop = build_encoder(model), MultiCrop(CROPS)
        self.projector = torch.nn.Linear(model.token_dim, options.dimensions)

    def views(self, batch, draw, rank, world):
        """Cut two crops of each sample."""
        return self.crop(batch, draw("crops"), rank, world)[0]

    def forward(self, views, step, dense=False):
        """Compute VICReg of the projected CLS tokens."""
        # Both crops of a sample side by side: then stochastic depth is the same on any number of
        # ranks.
        batch = len(views.image) // CROPS.global_views
        inputs = Inputs(*(transpose_rows(x, batch) for x in views.inputs))
        cls, tokens = self.encoder(inputs, dense=dense)
        projections = self.projector(cls).unflatten(0, (batch, -1)).transpose(0, 1)
        tokens = transpose_rows(tokens.detach(), CROPS.global_views) if dense else None
        return Step(VicReg()(projections, step), views, tokens)

    @torch.no_grad()
    def features(self, batch, modalities=("fused",)):
        """Encode whole samples with both sensors."""
        with evaluating(self):
            cls, tokens = self.encoder(clean_view(batch).inputs)
        return {"fused": ModalityFeatures(tokens, cls, torch.ones_like(tokens[..., 0]) > 0)}

    def exported(self):
        """Return the encoder, with which fine-tuning begins."""
        weights = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        return self.model, weights


@dataclass(frozen=True)
class Agreement(MethodOptions):
    """Options of the method: the width of its projections."""

    dimensions: int = 128

    def build(self, model, canvas):
        """Build the method with random weights."""
        return AgreementMethod(self, model)


if __name__ == "__main__":
    sys.exit(lemumo.main(["pretrain", "--method", "add_a_method.Agreement", *sys.argv[1:]]))
