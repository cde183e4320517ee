"""The fusion-token encoder of Le MuMo JEPA (arXiv 2603.24327), variant ``pruned``.

Every grid cell has a learned fusion token. In block 0 it mixes the image and companion tokens of
its own cell, while CLS attends to all patches; then the patches are dropped and CLS and the
fusion tokens go through the remaining blocks as an ordinary ViT.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.config import DEPTH, ModelConfig
from lemumo_core.model.stems import PatchStems

EMBEDDING = 512
PROJECTION = 128
DROP_PATH = 0.1


class Encoding(NamedTuple):
    """cls (B, D) and tokens (B, N, D), row by row over the grid, after the final norm."""

    cls: Tensor
    tokens: Tensor


class Attention(nn.Module):
    """Multi-head self-attention weights, named as in timm."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, heads, N, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(
            functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth on both branches."""

    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, 4 * dim))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * dim, dim))
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def fuse(self, cls: Tensor, fusion: Tensor, patches: tuple[Tensor, Tensor]) -> Tensor:
        """Block 0: the outputs that survive pruning, without masks and without dead work.

        The keys of CLS are CLS and all patches; those of fusion token i are itself and the two
        patches of cell i. The patches' own queries and MLP are never computed, since pruning
        drops them.

        Args:
            cls: (B, 1, D). fusion: (B, N, D). patches: image and companion tokens, (B, N, D).

        Returns:
            (B, 1 + N, D).
        """
        attn, n = self.attn, fusion.shape[1]
        dim = cls.shape[-1]
        kept = torch.cat([cls, fusion], dim=1)
        weight, bias = attn.qkv.weight, attn.qkv.bias
        q, k, v = attn.qkv(self.norm1(kept)).chunk(3, dim=-1)
        normed = self.norm1(torch.cat(patches, dim=1))
        pk, pv = functional.linear(normed, weight[dim:], bias[dim:]).chunk(2, dim=-1)

        context = functional.scaled_dot_product_attention(
            attn.split(q[:, :1]),
            attn.split(torch.cat([k[:, :1], pk], dim=1)),
            attn.split(torch.cat([v[:, :1], pv], dim=1)),
        )
        cls_out = context.transpose(1, 2).flatten(2)

        # Three keys a cell: a softmax over a stacked axis, in float32 as the reference does.
        heads = (attn.heads, -1)
        query = q[:, 1:].unflatten(-1, heads)
        keys = torch.stack([k[:, 1:], pk[:, :n], pk[:, n:]], dim=2).unflatten(-1, heads)
        values = torch.stack([v[:, 1:], pv[:, :n], pv[:, n:]], dim=2).unflatten(-1, heads)
        scale = (dim // attn.heads) ** -0.5
        scores = (query.unsqueeze(2) * keys).sum(-1, keepdim=True).float() * scale
        fusion_out = (scores.softmax(dim=2).to(values.dtype) * values).sum(2).flatten(2)

        x = kept + self._drop(attn.proj(torch.cat([cls_out, fusion_out], dim=1)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        return branch * branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep


class FusionEncoder(nn.Module):
    """Stems, fusion tokens and twelve blocks; embedding and projector for pretraining."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = config.grid
        n, dim = config.grid[0] * config.grid[1], config.dim
        self.stems = PatchStems(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.fusion_tokens = nn.Parameter(torch.empty(1, n, dim))
        # Rows: CLS, fusion, image, companion.
        self.positions = nn.Parameter(torch.empty(1, 1 + 3 * n, dim))
        rates = torch.linspace(0.0, DROP_PATH, DEPTH).tolist()
        self.blocks = nn.ModuleList(Block(dim, config.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.embedding = nn.Linear(dim, EMBEDDING)
        self.projector = nn.Sequential(
            *(nn.Linear(EMBEDDING, 2048), nn.BatchNorm1d(2048), nn.ReLU()),
            *(nn.Linear(2048, 2048), nn.BatchNorm1d(2048), nn.ReLU()),
            nn.Linear(2048, PROJECTION),
        )
        for parameter in (self.cls_token, self.fusion_tokens, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor, companion: Tensor, present: Tensor) -> Encoding:
        """Encode a batch. Arguments as in ``PatchStems.forward``; any multiple of 16 pixels."""
        patches = self.stems(image, companion, present)
        rows, columns = image.shape[1] // 16, image.shape[2] // 16
        fusion, position = self._tables(rows, columns)
        cls_position, *grids = position
        batch = image.shape[0]
        cls = (self.cls_token + cls_position).expand(batch, -1, -1)
        fusion = (fusion + grids[0]).expand(batch, -1, -1)
        first, *rest = self.blocks
        assert isinstance(first, Block)
        x = first.fuse(cls, fusion, (patches[0] + grids[1], patches[1] + grids[2]))
        for block in rest:
            x = block(x)
        x = self.norm(x)
        return Encoding(x[:, 0], x[:, 1:])

    def project(self, cls: Tensor) -> tuple[Tensor, Tensor]:
        """cls (B, D) to the embedding (B, 512) and its projection (B, 128)."""
        embedding = self.embedding(cls)
        return embedding, self.projector(embedding)

    def _tables(self, rows: int, columns: int) -> tuple[Tensor, list[Tensor]]:
        """Fusion tokens and the four position tables for a grid, resized where it is not ours."""
        n = self.grid[0] * self.grid[1]
        position = list(self.positions.split([1, n, n, n], dim=1))
        if (rows, columns) == self.grid:
            return self.fusion_tokens, position
        resized = [self._resize(p, rows, columns) for p in position[1:]]
        return self._resize(self.fusion_tokens, rows, columns), [position[0], *resized]

    def _resize(self, table: Tensor, rows: int, columns: int) -> Tensor:
        grid = table.unflatten(1, self.grid).permute(0, 3, 1, 2)
        grid = functional.interpolate(
            grid, size=(rows, columns), mode="bicubic", align_corners=False
        )
        return grid.flatten(2).transpose(1, 2)
