"""Encoders without fusion tokens, the paper's baselines: plain ViTs on patch tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Embedded, Encoder, patch_grid
from lemumo_core.model.transformer import (
    ALL,
    Block,
    learned_tokens,
    resize_tables,
    through,
    transformer_blocks,
)
from lemumo_core.preprocess import Inputs


class Tower(nn.Module):
    """A ViT without its patch embedding."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = config.grid
        self.cls_token = learned_tokens(1, config.dim)
        # Rows: CLS, patches.
        self.positions = learned_tokens(1 + config.grid[0] * config.grid[1], config.dim)
        self.blocks = transformer_blocks(config)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def embed(self, patches: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Add positions: CLS (1, 1, D), and patches (B, N, D) of a grid of rows and columns."""
        positions = resize_tables(self.positions[:, 1:], self.grid, size)
        return self.cls_token + self.positions[:, :1], patches + positions

    def forward(self, cls: Tensor, patches: Tensor, dense: bool) -> Tensor:
        """Encode what ``embed`` gave: (B, N + 1, D), CLS last; CLS alone unless dense."""
        x = torch.cat([patches, cls.expand(patches.shape[0], -1, -1)], dim=1)
        blocks = cast(list[Block], list(self.blocks))
        return self.norm(through(blocks, x, ALL if dense else slice(-1, None)))


class SingleEncoder(Encoder):
    """``camera_only`` and ``companion_only``: one modality. ``early``: both in one tower.

    The sum of two linear patch embeddings is one linear embedding of the stacked channels, so
    ``early`` is the RGBD baseline, and yet either modality may be absent.
    """

    def __init__(self, config: ModelConfig):
        one = {"camera_only": MODALITIES[:1], "companion_only": MODALITIES[1:]}
        super().__init__(config, one.get(config.variant, MODALITIES))
        self.tower = Tower(config)

    def embed(self, inputs: Inputs, shown: Tensor | None = None) -> Embedded:
        """See ``Encoder``."""
        both = torch.stack(self.patch_embed(inputs, shown)).sum(0)
        cls, patches = self.tower.embed(both, patch_grid(inputs))
        return Embedded(cls, cls[:, :0], (patches,))

    def transform(self, embedded: Embedded, dense: bool) -> Tensor:
        """See ``Encoder``."""
        encoded: Tensor = self.tower(embedded.cls, *embedded.patches, dense)
        return encoded


class LateEncoder(Encoder):
    """``late``: a tower for each modality, their CLS and their tokens concatenated (D' = 2D).

    The reference shows its probes the image tokens alone; here they see both.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config, MODALITIES)
        self.towers = nn.ModuleDict({name: Tower(config) for name in MODALITIES})

    def embed(self, inputs: Inputs, shown: Tensor | None = None) -> Embedded:
        """See ``Encoder``."""
        size = patch_grid(inputs)
        both = zip(self._towers(), self.patch_embed(inputs, shown), strict=True)
        cls, patches = zip(*(tower.embed(tokens, size) for tower, tokens in both), strict=True)
        return Embedded(torch.cat(cls, dim=1), cls[0][:, :0], patches)

    def transform(self, embedded: Embedded, dense: bool) -> Tensor:
        """See ``Encoder``."""
        every = zip(self._towers(), embedded.cls.split(1, dim=1), embedded.patches, strict=True)
        return torch.cat([tower(cls, tokens, dense) for tower, cls, tokens in every], dim=-1)

    def _towers(self) -> list[Tower]:
        return [cast(Tower, tower) for tower in self.towers.values()]
