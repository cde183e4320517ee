"""The transformer that all encoder variants share, with weights named as in timm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.config import ModelConfig
from lemumo_core.train.distributed import rows_of_rank

DROP_PATH = 0.1
"""Rate of stochastic depth in the last block; it rises linearly from 0 in the first."""
ALL = slice(None)


class Attention(nn.Module):
    """Weights of multi-head self-attention; who attends to whom is the caller's."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor, rows: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of some tokens, keys and values of all.

        Args:
            x: (B, N, D).
            rows: of the tokens that ask.

        Returns:
            q (B, heads, rows, D / heads), k and v (B, heads, N, D / heads).
        """
        if rows == ALL:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            weight, bias, dim = self.qkv.weight, self.qkv.bias, x.shape[-1]
            q = functional.linear(x[:, rows], weight[:dim], bias[:dim])
            k, v = functional.linear(x, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return q, k, v


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

    def forward(self, x: Tensor, rows: slice = ALL) -> Tensor:
        """All tokens attend to all; (B, N, D) to the outputs of ``rows`` alone, (B, rows, D)."""
        q, k, v = self.attn.project(self.norm1(x), rows)
        return self.update(x[:, rows], functional.scaled_dot_product_attention(q, k, v))

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block after its attention: x (B, N, D) with attended (B, heads, N, D / heads)."""
        x = x + self._drop(self.attn.proj(attended.transpose(1, 2).flatten(2)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        mask = rows_of_rank(len(branch), lambda n: branch.new_empty(n, 1, 1).bernoulli_(keep))
        return branch * (mask / keep)


def transformer_blocks(config: ModelConfig) -> nn.ModuleList:
    """The blocks of a size, initialised as in ViT."""
    rates = (DROP_PATH * i / (config.depth - 1) for i in range(config.depth))
    blocks = nn.ModuleList(Block(config.dim, config.heads, rate) for rate in rates)
    for module in blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return blocks


def learned_tokens(count: int, dim: int) -> nn.Parameter:
    """A table of tokens or positions, (1, count, dim)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, dim), std=0.02))


def resize_tables(tables: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Tables (T, rows * columns, D) of a grid for a view of another size, bicubically."""
    if size == grid:
        return tables
    maps = tables.unflatten(1, grid).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps, size=size, mode="bicubic", align_corners=False)
    return maps.flatten(2).transpose(1, 2)
