"""The fusion-token encoders of Le MuMo JEPA (arXiv 2603.24327).

Every grid cell has a learned fusion token. In block 0 it mixes the image and companion tokens of
its own cell, while CLS attends to all patches. The variants differ in what follows.

The sequence is: fusion tokens, CLS, image, companion. Who may attend to whom is then always a
run of neighbours, and no mask is ever built.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from lemumo_core.model.attention import attention
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Embedded, Encoder, Encoding, patch_grid
from lemumo_core.model.packing import through_packed
from lemumo_core.model.transformer import (
    ALL,
    Block,
    draw_paths,
    learned_tokens,
    resize_tables,
    through,
    transformer_blocks,
)
from lemumo_core.preprocess import Inputs


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

    def embed(self, inputs: Inputs, shown: Tensor | None = None) -> Embedded:
        """See ``Encoder``."""
        cls_position, grids = self.positions[:, :1], self.positions[0, 1:].unflatten(0, (3, -1))
        tables = torch.cat([self.fusion_tokens + grids[:1], grids[1:]])
        fusion, *positions = resize_tables(tables, self.grid, patch_grid(inputs)).split(1)
        patches = zip(self.patch_embed(inputs, shown), positions, strict=True)
        return Embedded(self.cls_token + cls_position, fusion, tuple(x + at for x, at in patches))

    def transform(self, embedded: Embedded, dense: bool) -> Tensor:
        """See ``Encoder``."""
        attended = self.attend(cast(list[Block], self.blocks), *tokens_of(embedded), dense)
        return self.norm(attended)

    def units(self) -> list[Block]:
        """Return all blocks but the first, into whose weights ``fuse`` reaches."""
        return super().units()[1:]

    def attend(self, blocks: list[Block], learned: Tensor, seen: Tensor, dense: bool) -> Tensor:
        """All blocks.

        Args:
            blocks: with their weights.
            learned: fusion tokens and CLS (1 or B, N + 1, D), as yet the same for all samples that
                keep the same cells.
            seen: patches of the image, then of the companion, (B, 2N, D).
            dense: whether fusion tokens are asked for.

        Returns:
            Fusion tokens and CLS (B, N + 1, D), or CLS alone unless dense.
        """
        raise NotImplementedError


class PrunedEncoder(FusionEncoder):
    """``pruned``, the paper's: patches are dropped after block 0, the rest is a ViT on N + 1.

    The patches' own queries and MLP in block 0 would be dropped, so they are never computed.
    """

    def attend(self, blocks: list[Block], learned: Tensor, seen: Tensor, dense: bool) -> Tensor:
        """Apply the blocks, see ``FusionEncoder.attend``."""
        x = fuse(blocks[0], learned, seen, prune=True)
        return through(blocks[1:], x, ALL if dense else slice(-1, None))

    def encode_all(self, embedded: Sequence[Embedded], dense: Sequence[bool]) -> list[Encoding]:
        """See ``Encoder``; all blocks but the first and the last take the views at once."""
        first, *rest = cast(list[Block], list(self.blocks))
        fused = [fuse(first, *tokens_of(one), prune=True) for one in embedded]
        rows = [ALL if every else slice(-1, None) for every in dense]
        encoded = map(self.norm, through_packed(rest, fused, rows))
        return [Encoding(x[:, -1], x[:, :-1]) for x in encoded]


class PersistentEncoder(FusionEncoder):
    """``persistent``: patches stay, and every fusion token sees its own two in every block."""

    def attend(self, blocks: list[Block], learned: Tensor, seen: Tensor, dense: bool) -> Tensor:
        """Apply the blocks, see ``FusionEncoder.attend``."""
        n = learned.shape[1] - 1
        x = fuse(blocks[0], learned, seen, prune=False)
        if dense:
            return through(blocks[1:], x, slice(0, n + 1), partial(persist, n=n))
        *middle, last = blocks[1:]
        *paths, last_paths = draw_paths(blocks[1:], x)
        for block, own in zip(middle, paths, strict=True):
            x = block(x, attention=partial(persist, n=n), paths=own)
        return last(x[:, : n + 1], slice(n, n + 1), paths=last_paths)


class FullEncoder(FusionEncoder):
    """``full``: all tokens attend to all in every block."""

    def attend(self, blocks: list[Block], learned: Tensor, seen: Tensor, dense: bool) -> Tensor:
        """Apply the blocks, see ``FusionEncoder.attend``."""
        n = learned.shape[1] - 1
        x = torch.cat([learned.expand(seen.shape[0], -1, -1), seen], dim=1)
        return through(blocks, x, slice(0 if dense else n, n + 1))


def tokens_of(embedded: Embedded) -> tuple[Tensor, Tensor]:
    """Return learned tokens and patches as ``FusionEncoder.attend`` takes them."""
    cls = embedded.cls.expand(embedded.cells.shape[0], -1, -1)
    return torch.cat([embedded.cells, cls], dim=1), torch.cat(embedded.patches, dim=1)


def fuse(block: Block, learned: Tensor, seen: Tensor, prune: bool) -> Tensor:
    """Apply block 0 of ``pruned`` and ``persistent``, which has no stochastic depth.

    Keys of CLS and the patches: CLS and the patches. Keys of fusion token i: itself and the two
    patches of cell i. Fusion tokens and CLS are projected once, not for every sample.

    Args:
        block: its weights.
        learned: as of ``FusionEncoder.attend``.
        seen: likewise.
        prune: leave the patches out of the result.

    Returns:
        Fusion tokens, CLS and, unless pruned, patches, (B, N + 1 or 3N + 1, D).
    """
    # Not len(seen): it would fix the batch of an exported graph.
    batch, n = seen.shape[0], learned.shape[1] - 1
    q, k, v = block.attn.project(block.norm1(learned))
    q_cls, k_cls, v_cls = (part[:, :, n:].expand(batch, -1, -1, -1) for part in (q, k, v))
    asking, x = [q_cls], learned.expand(batch, -1, -1)
    if prune:
        k_seen, v_seen = block.attn.keys_and_values(block.norm1(seen))
    else:
        q_seen, k_seen, v_seen = block.attn.project(block.norm1(seen))
        asking, x = [q_cls, q_seen], torch.cat([x, seen], dim=1)
    scores = scores_in_cell(q[:, :, :n], [k[:, :, :n], *k_seen.chunk(2, dim=2)])
    # Softmax in float32, as in the reference.
    weights = scores.float().softmax(-1).to(v.dtype)
    fusion = sum_in_cell(weights, [v[:, :, :n], *v_seen.chunk(2, dim=2)])
    keys, values = torch.cat([k_cls, k_seen], dim=2), torch.cat([v_cls, v_seen], dim=2)
    others = attention(torch.cat(asking, dim=2), keys, values)
    return block.feed_forward(x + block.attn.merge(torch.cat([fusion, others], dim=2)))


def persist(q: Tensor, k: Tensor, v: Tensor, n: int) -> Tensor:
    """Attend as in the later blocks of ``persistent``.

    Keys of CLS: CLS and the fusion tokens. Keys of fusion token i: these and the two patches of
    cell i. Keys of the patches: the patches.

    Args:
        q: (B, heads, N + 1 or 3N + 1, d), fusion tokens, CLS and perhaps patches.
        k: (B, heads, 3N + 1, d).
        v: (B, heads, 3N + 1, d).
        n: cells, N.

    Returns:
        As q.
    """
    kept, cells = slice(0, n + 1), (slice(n + 1, 2 * n + 1), slice(2 * n + 1, None))
    shared = q[:, :, :n] @ k[:, :, kept].transpose(2, 3) * q.shape[-1] ** -0.5
    own = scores_in_cell(q[:, :, :n], [k[:, :, cell] for cell in cells])
    weights = torch.cat([shared, own], dim=-1).float().softmax(-1).to(v.dtype)
    fusion = weights[..., kept] @ v[:, :, kept]
    fusion = fusion + sum_in_cell(weights[..., n + 1 :], [v[:, :, cell] for cell in cells])
    cls = attention(q[:, :, n : n + 1], k[:, :, kept], v[:, :, kept])
    parts = [fusion, cls]
    if q.shape[2] > n + 1:
        q, k, v = (part[:, :, n + 1 :] for part in (q, k, v))
        parts.append(attention(q, k, v))
    return torch.cat(parts, dim=2)


def scores_in_cell(q: Tensor, keys: list[Tensor]) -> Tensor:
    """Scaled scores (B, heads, N, len(keys)) of each query with the keys at its own place."""
    scores = torch.broadcast_tensors(*((q * k).sum(-1) for k in keys))
    return torch.stack(scores, dim=-1) * q.shape[-1] ** -0.5


def sum_in_cell(weights: Tensor, values: list[Tensor]) -> Tensor:
    """Values (B, heads, N, d) summed by weights (B, heads, N, len(values))."""
    total = weights[..., :1] * values[0]
    for i, value in enumerate(values[1:], start=1):
        total = total + weights[..., i : i + 1] * value
    return total
