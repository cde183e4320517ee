"""The objective of masked modelling on one view of each sample, for any of the encoders."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.data.pinned import to_device
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCrop, View
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.visreg import visreg
from lemumo_core.methods.masked_modeling.masking import Masks, draw_masks, embed_masked
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.methods.masked_modeling.reconstruction import Reconstruction
from lemumo_core.methods.method import Draw, mixed_precision
from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.encoder import Embedded, Encoder

VISREG_CELLS = 18
"""Positions of a step at which VISReg sees the tokens of a batch."""


class Masked(NamedTuple):
    """A view of each sample, and its masks."""

    view: View
    masks: Masks


class MaskedObjective(nn.Module):
    """Views, masks, decoder and loss; the encoder is the caller's.

    Args:
        options: of masking and reconstruction, with their size.
        model: of the encoder.
        modalities: that the encoder sees.
    """

    def __init__(self, options: MaskingOptions, model: ModelConfig, modalities: tuple[str, ...]):
        super().__init__()
        self.options, self.modalities = options, modalities
        self.crop = MultiCrop(options.crop)
        height, width = options.crop.global_size
        self.grid = height // PATCH, width // PATCH
        self.reconstruction = Reconstruction(options, model, self.grid, modalities)

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> Masked:
        """Cut one view of each sample, and draw its masks; see ``Method.views``."""
        (view,) = self.crop(batch, draw("masked views"), rank, world)
        rows = torch.arange(len(batch)) + rank * len(batch)
        masks = draw_masks(rows, world * len(batch), self.grid, self.options.keep, draw("masks"))
        if len(self.modalities) == 1:  # cells are left out, and nothing else
            masks = masks._replace(shown=torch.ones_like(masks.shown))
        return Masked(view, masks.to(view.image.device))

    def forward(self, encoder: Encoder, masked: Masked, step: int | Tensor) -> Loss:
        """Encode views, and compute their ``loss``.

        Args:
            encoder: of the model.
            masked: of ``views``.
            step: as of ``loss``.
        """
        with mixed_precision(masked.view.image.device):
            tokens = encoder.encode(self.embed(encoder, masked)).tokens
            return self.loss(tokens, masked, step)

    def embed(self, encoder: Encoder, masked: Masked) -> Embedded:
        """Return what the encoder is to encode of ``views``."""
        return embed_masked(encoder, masked.view.inputs, masked.masks)

    def loss(self, tokens: Tensor, masked: Masked, step: int | Tensor) -> Loss:
        """Compute the loss of a step, the same on every rank, in ``mixed_precision``.

        Args:
            tokens: of the encoder, of the cells that the masks keep.
            masked: of ``views``.
            step: seeds positions and slices of VISReg, as in ``sigreg``.

        Returns:
            Terms of ``Reconstruction``, and ``token_visreg`` where that has a weight.
        """
        loss: Loss = self.reconstruction(tokens, masked.masks, masked.view)
        if not self.options.token_visreg:
            return loss
        value = self._token_visreg(tokens, step)
        total = loss.total + self.options.token_visreg * value
        return Loss(total, loss.terms | {"token_visreg": value.detach()})

    def _token_visreg(self, tokens: Tensor, step: int | Tensor) -> Tensor:
        chosen = _choose_cells(tokens.detach(), torch.as_tensor(step))
        return visreg(tokens[:, chosen].transpose(0, 1), step)


@torch.library.custom_op("lemumo::choose_cells", mutates_args=())
def _choose_cells(tokens: Tensor, step: Tensor) -> Tensor:
    """Choose cells of tokens (R, M, D) at random, in an operator that a compiler takes as it is."""
    draw = torch.Generator().manual_seed(int(step))
    chosen = torch.randperm(tokens.shape[1], generator=draw)[:VISREG_CELLS]
    return to_device(chosen, tokens.device)


@_choose_cells.register_fake
def _(tokens: Tensor, step: Tensor) -> Tensor:
    return tokens.new_empty(min(VISREG_CELLS, tokens.shape[1]), dtype=torch.int64)
