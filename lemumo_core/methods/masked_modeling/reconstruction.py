"""Reconstruction of image and companion from the tokens of the cells that were encoded."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.views import View
from lemumo_core.distributed import mean_over_ranks
from lemumo_core.losses.loss import Loss
from lemumo_core.methods.masked_modeling.masking import Masks
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.model.config import MODALITIES, PATCH, ModelConfig
from lemumo_core.model.linear import Linear
from lemumo_core.model.transformer import Block

DIM, HEADS, BLOCKS = 128, 4, 2
"""Size of the decoder."""
IMAGE_MEAN, IMAGE_STD = 0.45, 0.25
DEPTH_LOG_MEAN = 2.5
"""About 12 m."""
COARSE_IMAGE, COARSE_COMPANION = 2, 4
"""Pixels a side of the cells that the linear head predicts."""


class Targets(NamedTuple):
    """What is true of R views, by patch.

    Attributes:
        image: float32 (R, N, values), standardised.
        companion: float32 (R, N, values): log depth about its mean, or thermal intensity.
        known: float32 (R, N, values), 1 where the companion is known.
    """

    image: Tensor
    companion: Tensor
    known: Tensor


class Reconstruction(nn.Module):
    """A light decoder over all cells of the grid, and perhaps a linear head, with their loss.

    Args:
        options: what is reconstructed.
        config: of the model.
        grid: rows and columns of the patch grid of the views.
        modalities: that the encoder sees; no other is reconstructed.
    """

    reconstructed: Tensor

    def __init__(
        self,
        options: MaskingOptions,
        config: ModelConfig,
        grid: tuple[int, int],
        modalities: tuple[str, ...] = MODALITIES,
    ):
        super().__init__()
        self.register_buffer(
            "reconstructed",
            torch.tensor([[float(name in modalities)] for name in MODALITIES]),
            False,
        )
        self.options, self.is_picture = options, config.companion != "lidar"
        self.bands = config.companion_bands
        self.depth_max_m = config.input_spec.depth_max_m
        self.enter = Linear(config.token_dim, DIM)
        self.mask_token = nn.Parameter(torch.randn(1, 1, DIM) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, grid[0] * grid[1], DIM) * 0.02)
        self.blocks = nn.ModuleList(Block(DIM, HEADS, 0.0) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.sizes = 3 * PATCH**2, self.bands * PATCH**2
        self.decode = Linear(DIM, sum(self.sizes))
        cells = (PATCH // COARSE_IMAGE) ** 2, (PATCH // COARSE_COMPANION) ** 2
        self.coarse_sizes = 3 * cells[0], self.bands * cells[1]
        self.linear = None
        if options.linear_head:
            self.linear = Linear(config.token_dim, sum(self.coarse_sizes))

    def forward(self, tokens: Tensor, masks: Masks, view: View) -> Loss:
        """Compute the loss, the same on every rank.

        Args:
            tokens: (R, M, D') of the encoded cells.
            masks: of the R views.
            view: all that is true of them.

        Returns:
            Terms ``image`` and ``companion``; with a linear head ``image_linear`` and
            ``companion_linear``. The total is their sum.
        """
        hidden = masks.hidden
        weights = torch.where(hidden, 1.0, self.options.shown_weight)
        weights = weights * view.present[..., None] * self.reconstructed
        x = self.mask_token.expand(len(tokens), hidden.shape[2], -1).to(tokens.dtype)
        x = x.index_copy(1, masks.cells, self.enter(tokens).to(x.dtype)) + self.positions
        for block in self.blocks:
            x = block(x)
        predicted = self.decode(self.norm(x)).float().split(self.sizes, dim=-1)
        pixels = self._targets(view, 1, 1)
        if self.options.normalize_patches:
            image = pixels.image
            std = (image.var(-1, keepdim=True) + 1e-4).sqrt()
            pixels = pixels._replace(image=(image - image.mean(-1, keepdim=True)) / std)
        terms = self._errors(predicted, pixels, weights, "")
        if self.linear is not None:
            coarse = Targets(
                *(x[:, masks.cells] for x in self._targets(view, COARSE_IMAGE, COARSE_COMPANION))
            )
            predicted = self.linear(tokens).float().split(self.coarse_sizes, dim=-1)
            terms |= self._errors(predicted, coarse, weights[:, :, masks.cells], "_linear")
        total = torch.stack(list(terms.values())).sum()
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    def _errors(
        self, predicted: tuple[Tensor, ...], targets: Targets, weights: Tensor, suffix: str
    ) -> dict[str, Tensor]:
        """Weighted mean square error of the image and mean absolute error of the companion."""
        image = (predicted[0] - targets.image).square().mean(-1)
        known = targets.known * weights[:, 1, :, None]
        companion = (predicted[1] - targets.companion).abs() * known
        sums = torch.stack([(image * weights[:, 0]).sum(), companion.sum()])
        counts = torch.stack([weights[:, 0].sum(), known.sum()])
        means = mean_over_ranks(sums) / mean_over_ranks(counts).clamp(min=1e-6)
        return {f"image{suffix}": means[0], f"companion{suffix}": means[1]}

    @torch.no_grad()
    def _targets(self, view: View, image_cell: int, companion_cell: int) -> Targets:
        """Return the targets of patches in cells of so many pixels a side."""
        image = (view.image.float().permute(0, 3, 1, 2) / 255 - IMAGE_MEAN) / IMAGE_STD
        companion = view.companion.permute(0, 3, 1, 2)
        value, valid = companion[:, : self.bands], companion[:, : self.bands] > 0
        if companion.shape[1] > self.bands:
            valid = (companion[:, self.bands, None] > 0.5).expand_as(value)
        if self.is_picture:
            value = (value - IMAGE_MEAN) / IMAGE_STD
        else:
            valid = valid & (value < 1)
            value = (value * self.depth_max_m).log1p() - DEPTH_LOG_MEAN
        known = functional.avg_pool2d(valid.float(), companion_cell)
        total = functional.avg_pool2d(torch.where(valid, value, 0.0), companion_cell)
        return Targets(
            _patches(functional.avg_pool2d(image, image_cell), PATCH // image_cell),
            _patches(total / known.clamp(min=1e-6), PATCH // companion_cell),
            _patches((known > 0).float(), PATCH // companion_cell),
        )


def _patches(maps: Tensor, side: int) -> Tensor:
    """Maps (R, C, h, w) in patches of so many cells a side, (R, N, C side side)."""
    return functional.pixel_unshuffle(maps, side).flatten(2).transpose(1, 2)
