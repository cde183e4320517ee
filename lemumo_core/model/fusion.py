"""The fusion-token encoders of Le MuMo JEPA (arXiv 2603.24327).

Every grid cell has a learned fusion token. In block 0 it mixes the image and companion tokens of
its own cell, while CLS attends to all patches. The variants differ in what follows.

The sequence is: fusion tokens, CLS, image, companion. Who may attend to whom is then always a
run of neighbours, and no mask is ever built.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.transformer import (
    ALL,
    Block,
    learned_tokens,
    resize_tables,
    transformer_blocks,
)


class FusionEncoder(Encoder):
    """Base of the variants: the 1 + 3N tokens, and their way through the blocks left open."""

    def __init__(self, config: ModelConfig):
        super().__init__(config, MODALITIES)
        n, dim = config.grid[0] * config.grid[1], config.dim
        self.cls_token = learned_tokens(1, dim)
        self.fusion_tokens = learned_tokens(n, dim)
        # Rows: CLS, fusion, image, companion.
        self.positions = learned_tokens(1 + 3 * n, dim)
        self.blocks = transformer_blocks(config)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def transform(self, patches: list[Tensor], size: tuple[int, int], dense: bool) -> Tensor:
        image, companion = patches
        batch, n, _ = image.shape
        cls_position, grids = self.positions[:, :1], self.positions[0, 1:].unflatten(0, (3, -1))
        tables = torch.cat([self.fusion_tokens + grids[:1], grids[1:]])
        fusion, image_position, companion_position = resize_tables(tables, self.grid, size)
        sequence = (
            fusion.expand(batch, -1, -1),
            (self.cls_token + cls_position).expand(batch, -1, -1),
            image + image_position,
            companion + companion_position,
        )
        blocks = cast(list[Block], self.blocks)
        return self.norm(self.attend(blocks, torch.cat(sequence, dim=1), n, dense))

    def attend(self, blocks: list[Block], x: Tensor, n: int, dense: bool) -> Tensor:
        """All blocks: (B, 3N + 1, D) to fusion tokens and CLS, or CLS alone unless dense."""
        raise NotImplementedError


class PrunedEncoder(FusionEncoder):
    """``pruned``, the paper's: patches are dropped after block 0, the rest is a ViT on N + 1.

    The patches' own queries and MLP in block 0 would be dropped, so they are never computed.
    """

    def attend(self, blocks: list[Block], x: Tensor, n: int, dense: bool) -> Tensor:
        first, *middle, last = blocks
        x = fuse(first, x, n, slice(0, n + 1))
        for block in middle:
            x = block(x)
        return last(x, ALL if dense else slice(n, n + 1))


class PersistentEncoder(FusionEncoder):
    """``persistent``: patches stay, and every fusion token sees its own two in every block."""

    def attend(self, blocks: list[Block], x: Tensor, n: int, dense: bool) -> Tensor:
        first, *middle, last = blocks
        x = fuse(first, x, n, ALL)
        for block in middle:
            x = persist(block, x, n, ALL)
        if dense:
            return persist(last, x, n, slice(0, n + 1))
        return last(x[:, : n + 1], slice(n, n + 1))


class FullEncoder(FusionEncoder):
    """``full``: all tokens attend to all in every block."""

    def attend(self, blocks: list[Block], x: Tensor, n: int, dense: bool) -> Tensor:
        *body, last = blocks
        for block in body:
            x = block(x)
        return last(x, slice(0 if dense else n, n + 1))


def fuse(block: Block, x: Tensor, n: int, rows: slice) -> Tensor:
    """Block 0 of ``pruned`` and ``persistent``.

    Keys of CLS and the patches: CLS and the patches. Keys of fusion token i: itself and the two
    patches of cell i.

    Args:
        block: its weights.
        x: (B, 3n + 1, D). n: cells.
        rows: tokens to compute, from the first on and at least fusion and CLS.

    Returns:
        (B, rows, D).
    """
    q, k, v = block.attn.project(block.norm1(x), rows)
    cells = slice(0, n), slice(n + 1, 2 * n + 1), slice(2 * n + 1, None)
    scores = scores_in_cell(q[:, :, :n], [k[:, :, cell] for cell in cells])
    # Softmax in float32, as in the reference.
    weights = scores.float().softmax(-1).to(v.dtype)
    fusion = sum_in_cell(weights, [v[:, :, cell] for cell in cells])
    others = scaled_dot_product_attention(q[:, :, n:], k[:, :, n:], v[:, :, n:])
    return block.update(x[:, rows], torch.cat([fusion, others], dim=2))


def persist(block: Block, x: Tensor, n: int, rows: slice) -> Tensor:
    """Later blocks of ``persistent``; arguments as of ``fuse``.

    Keys of CLS: CLS and the fusion tokens. Keys of fusion token i: these and the two patches of
    cell i. Keys of the patches: the patches.
    """
    q, k, v = block.attn.project(block.norm1(x), rows)
    kept, cells = slice(0, n + 1), (slice(n + 1, 2 * n + 1), slice(2 * n + 1, None))
    shared = q[:, :, :n] @ k[:, :, kept].transpose(2, 3) * q.shape[-1] ** -0.5
    own = scores_in_cell(q[:, :, :n], [k[:, :, cell] for cell in cells])
    weights = torch.cat([shared, own], dim=-1).float().softmax(-1).to(v.dtype)
    fusion = weights[..., kept] @ v[:, :, kept]
    fusion = fusion + sum_in_cell(weights[..., n + 1 :], [v[:, :, cell] for cell in cells])
    cls = scaled_dot_product_attention(q[:, :, n : n + 1], k[:, :, kept], v[:, :, kept])
    parts = [fusion, cls]
    if q.shape[2] > n + 1:
        q, k, v = (part[:, :, n + 1 :] for part in (q, k, v))
        parts.append(scaled_dot_product_attention(q, k, v))
    return block.update(x[:, rows], torch.cat(parts, dim=2))


def scores_in_cell(q: Tensor, keys: list[Tensor]) -> Tensor:
    """Scaled scores (B, heads, N, len(keys)) of each query with the keys at its own place."""
    return torch.stack([(q * k).sum(-1) for k in keys], dim=-1) * q.shape[-1] ** -0.5


def sum_in_cell(weights: Tensor, values: list[Tensor]) -> Tensor:
    """Values (B, heads, N, d) summed by weights (B, heads, N, len(values))."""
    total = weights[..., :1] * values[0]
    for i, value in enumerate(values[1:], start=1):
        total = total + weights[..., i : i + 1] * value
    return total
