"""Encoders without fusion tokens, the paper's baselines: plain ViTs on patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.transformer import ALL, learned_tokens, resize_tables, transformer_blocks


class Tower(nn.Module):
    """A ViT without its stem."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = config.grid
        self.cls_token = learned_tokens(1, config.dim)
        # Rows: CLS, patches.
        self.positions = learned_tokens(1 + config.grid[0] * config.grid[1], config.dim)
        self.blocks = transformer_blocks(config)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, patches: Tensor, size: tuple[int, int], dense: bool) -> Tensor:
        """(B, N, D) to (B, N + 1, D), CLS last; CLS alone unless dense."""
        cls = (self.cls_token + self.positions[:, :1]).expand(patches.shape[0], -1, -1)
        patches = patches + resize_tables(self.positions[:, 1:], self.grid, size)
        x = torch.cat([patches, cls], dim=1)
        *body, last = self.blocks
        for block in body:
            x = block(x)
        return self.norm(last(x, ALL if dense else slice(-1, None)))


class SingleEncoder(Encoder):
    """``camera_only`` and ``companion_only``: one modality. ``early``: both in one tower.

    The sum of two linear patch embeddings is one linear embedding of the stacked channels, so
    ``early`` is the RGBD baseline, and yet either modality may be absent.
    """

    def __init__(self, config: ModelConfig):
        one = {"camera_only": MODALITIES[:1], "companion_only": MODALITIES[1:]}
        super().__init__(config, one.get(config.variant, MODALITIES))
        self.tower = Tower(config)

    def transform(self, patches: list[Tensor], size: tuple[int, int], dense: bool) -> Tensor:
        return self.tower(torch.stack(patches).sum(0), size, dense)


class LateEncoder(Encoder):
    """``late``: a tower for each modality, their CLS and their tokens concatenated (D' = 2D).

    The reference shows its probes the image tokens alone; here they see both.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config, MODALITIES)
        self.towers = nn.ModuleDict({name: Tower(config) for name in MODALITIES})

    def transform(self, patches: list[Tensor], size: tuple[int, int], dense: bool) -> Tensor:
        both = zip(self.towers.values(), patches, strict=True)
        return torch.cat([tower(tokens, size, dense) for tower, tokens in both], dim=-1)
