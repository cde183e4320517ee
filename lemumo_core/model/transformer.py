"""The transformer that all encoder variants share, with weights named as in timm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.attention import attention
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.linear import Linear, linear
from lemumo_core.model.stochastic_depth import WHOLE, PackedPath, Path, draw

DROP_PATH = 0.1
"""Rate of stochastic depth in the last block; it rises linearly from 0 in the first."""
ALL = slice(None)


class Attention(nn.Module):
    """Weights of multi-head self-attention; who attends to whom is the caller's."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def project(self, x: Tensor, rows: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of some tokens, keys and values of all.

        Args:
            x: (B, N, D).
            rows: of the tokens that ask.

        Returns:
            q (B, heads, rows, D / heads), k and v (B, heads, N, D / heads).
        """
        if rows != ALL:
            weight, bias, dim = self.qkv.weight, self.qkv.bias, x.shape[-1]
            q = linear(x[:, rows], weight[:dim], bias[:dim])
            return self._by_head(q), *self.keys_and_values(x)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self._by_head(q), self._by_head(k), self._by_head(v)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, both (B, heads, N, D / heads), of tokens (B, N, D)."""
        weight, bias, dim = self.qkv.weight, self.qkv.bias, x.shape[-1]
        k, v = linear(x, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        return self._by_head(k), self._by_head(v)

    def merge(self, attended: Tensor) -> Tensor:
        """Project what the heads found, (B, heads, N, D / heads), to (B, N, D)."""
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth on both branches."""

    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", Linear(dim, 4 * dim))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", Linear(4 * dim, dim))
        self.drop_path = drop_path

    def forward(
        self,
        x: Tensor,
        rows: slice = ALL,
        attention: Callable[..., Tensor] = attention,
        paths: Sequence[Path | PackedPath] | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: (B, N, D).
            rows: of the tokens to compute.
            attention: from the queries of ``rows``, keys and values to what they find; by default
                all tokens attend to all.
            paths: of this block, where an encoder has drawn those of all its blocks at once.

        Returns:
            (B, rows, D).
        """

        def attend(x: Tensor) -> Tensor:
            return self.attn.merge(attention(*self.attn.project(self.norm1(x), rows)))

        first, second = paths or draw_paths([self], x)[0]
        asking = x if rows == ALL else x[:, rows]
        return self.feed_forward(first.add(asking, attend, x), second)

    def feed_forward(self, x: Tensor, path: Path | PackedPath = WHOLE) -> Tensor:
        """Add the second branch to x (B, N, D)."""
        return path.add(x, lambda x: self.mlp(self.norm2(x)), x)


def through(
    blocks: Sequence[Block],
    x: Tensor,
    rows: slice = ALL,
    attention: Callable[..., Tensor] = attention,
) -> Tensor:
    """Take tokens through blocks, whose stochastic depth is drawn at once.

    Args:
        blocks: one after the other.
        x: (B, N, D).
        rows: of the tokens that the last block computes.
        attention: as of ``Block``.

    Returns:
        (B, rows, D).
    """
    *body, last = blocks
    *paths, last_paths = draw_paths(blocks, x)
    for block, own in zip(body, paths, strict=True):
        x = block(x, attention=attention, paths=own)
    found: Tensor = last(x, rows, attention, last_paths)
    return found


def draw_paths(blocks: Sequence[Block], x: Tensor) -> list[tuple[Path, Path]]:
    """Draw stochastic depth for both branches of blocks that take samples x (B, ...) one by one."""
    rates = [block.drop_path if block.training else 0.0 for block in blocks for _ in range(2)]
    paths = iter(draw(rates, x))
    return list(zip(paths, paths, strict=True))


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
    return _resize_bicubic(maps, size).flatten(2).transpose(1, 2)


@torch.library.custom_op("lemumo::resize_bicubic", mutates_args=())
def _resize_bicubic(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps (T, D, rows, columns), in an operator that a compiler takes as it is.

    Of torch's own, inductor writes each of the 16 taps out, with its gradient, as kernels.
    """
    resized = functional.interpolate(maps, list(size), mode="bicubic", align_corners=False)
    return resized.contiguous()


@_resize_bicubic.register_fake
def _(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps.new_empty(*maps.shape[:2], *size)


def _keep_shape(ctx: Any, inputs: tuple[Tensor, Sequence[int]], output: Tensor) -> None:
    ctx.shape = inputs[0].shape


def _bicubic_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    backward = torch.ops.aten.upsample_bicubic2d_backward
    return backward(gradient, gradient.shape[2:], ctx.shape, False), None


_resize_bicubic.register_autograd(_bicubic_gradient, setup_context=_keep_shape)
