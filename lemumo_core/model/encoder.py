"""Interface that all variants of the encoder share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.patch_embed import PatchEmbed
from lemumo_core.model.transformer import Block
from lemumo_core.preprocess import Inputs


class Encoding(NamedTuple):
    """cls (B, D') and tokens (B, N, D'), row by row over the grid, after the final norm.

    D' is ``ModelConfig.token_dim``.
    """

    cls: Tensor
    tokens: Tensor


class Embedded(NamedTuple):
    """Tokens of B views with their positions, before the transformer.

    A cell of the patch grid is left out, for masked modelling, with its rows of ``cells`` and of
    all ``patches``.

    Attributes:
        cls: (1, towers, D), of each tower, or one.
        cells: (1 or B, N, D), fusion tokens; (1, 0, D) without fusion.
        patches: (B, N, D) each: those of the modalities, or their sum.
    """

    cls: Tensor
    cells: Tensor
    patches: tuple[Tensor, ...]


def patch_grid(inputs: Inputs) -> tuple[int, int]:
    """Return rows and columns of the patches of views."""
    return inputs.image.shape[1] // PATCH, inputs.image.shape[2] // PATCH


class Encoder(nn.Module):
    """Patch embeddings; variants add what follows."""

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...]):
        super().__init__()
        self.grid = config.grid
        self.patch_embed = PatchEmbed(config, modalities)
        self.modalities = modalities
        # A seed keeps giving the weights of version 0.1, which drew a projector (D' to 512, 2048,
        # 2048, 128) here.
        widths = config.token_dim, 512, 2048, 2048, 128
        torch.rand(sum((a + 1) * b for a, b in pairwise(widths)))

    def forward(self, inputs: Inputs, dense: bool = True) -> Encoding:
        """Encode views of any size that is a multiple of 16 pixels.

        Args:
            inputs: tensors; intrinsics are not looked at.
            dense: False leaves the tokens out, with zero rows, and with them most of the last
                block. cls is the same.
        """
        return self.encode(self.embed(inputs), dense)

    def embed(self, inputs: Inputs, shown: Tensor | None = None) -> Embedded:
        """Return the tokens of views, of which some may be left out before ``encode``.

        Args:
            inputs: as of ``forward``.
            shown: bool (B, 2, N), which patches of image and companion are not absent; None for
                all.
        """
        raise NotImplementedError

    def encode(self, embedded: Embedded, dense: bool = True) -> Encoding:
        """Encode what ``embed`` gave, or a part of it."""
        x = self.transform(embedded, dense)
        return Encoding(x[:, -1], x[:, :-1])

    def encode_all(self, embedded: Sequence[Embedded], dense: Sequence[bool]) -> list[Encoding]:
        """Encode views of several sizes, each as ``encode`` does; a variant may take them at once.

        Args:
            embedded: of each size.
            dense: of each, as of ``encode``.
        """
        return [self.encode(*one) for one in zip(embedded, dense, strict=True)]

    def transform(self, embedded: Embedded, dense: bool) -> Tensor:
        """Return encoded tokens (B, N + 1, D'), CLS last; CLS alone unless dense."""
        raise NotImplementedError

    def units(self) -> list[Block]:
        """Return the blocks that can be sharded and recomputed one by one.

        They are those whose weights are used through their ``forward`` alone.
        """
        return [module for module in self.modules() if isinstance(module, Block)]
