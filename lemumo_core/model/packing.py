"""Groups of samples with sequences of different lengths, packed so that blocks take them at once.

Norms, linear maps and activations see one row of tokens, and launch once for all groups, and the
gradient of a weight is one product; attention stays within each sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lemumo_core.model.attention import attention
from lemumo_core.model.stochastic_depth import PackedPath, Path, Shape, groups_of
from lemumo_core.model.transformer import ALL, Block, draw_paths


def through_packed(
    blocks: Sequence[Block], groups: Sequence[Tensor], rows: Sequence[slice]
) -> list[Tensor]:
    """Take groups of samples through blocks, each as ``transformer.through`` would take it.

    Stochastic depth is drawn group by group, as by one pass after the other.

    Args:
        blocks: one after the other.
        groups: tokens of the samples of each group, (B, N, D).
        rows: of the tokens that the last block computes, of each group.

    Returns:
        Of each group (B, rows, D).
    """
    *body, last = blocks
    *paths, last_paths = zip(*(draw_paths(blocks, x) for x in groups), strict=True)
    groups = _through(body, groups, paths)
    whole = [i for i, asked in enumerate(rows) if asked == ALL]
    of_whole = _through([last], [groups[i] for i in whole], [[last_paths[i] for i in whole]])
    found = dict(zip(whole, of_whole, strict=True))
    for i, asked in enumerate(rows):
        if asked != ALL:
            found[i] = last(groups[i], asked, paths=last_paths[i])
    return [found[i] for i in range(len(groups))]


def _through(
    blocks: Sequence[Block],
    groups: Sequence[Tensor],
    paths: Sequence[Sequence[tuple[Path, Path]]],
) -> Sequence[Tensor]:
    """Take groups through blocks, which compute all rows; paths are by block, and then by group."""
    if not groups:
        return groups
    shapes = [(x.shape[0], x.shape[1]) for x in groups]
    packed = torch.cat([x.flatten(0, 1) for x in groups])[None]
    for block, of_groups in zip(blocks, paths, strict=True):
        first, second = (PackedPath(branch, shapes) for branch in zip(*of_groups, strict=True))
        apart = partial(attend_apart, shapes=first.taken)
        packed = block(packed, attention=apart, paths=(first, second))
    return groups_of(packed, shapes)


def attend_apart(q: Tensor, k: Tensor, v: Tensor, shapes: Sequence[Shape]) -> Tensor:
    """Let the tokens of each sample attend to their own.

    Args:
        q: queries of all tokens, (1, heads, T, d).
        k: keys, likewise.
        v: values, likewise.
        shapes: samples and tokens of each group.

    Returns:
        As q.
    """
    by_group = (
        [one.transpose(1, 2) for one in groups_of(x.transpose(1, 2), shapes)] for x in (q, k, v)
    )
    found = [attention(*one).transpose(1, 2).flatten(0, 1) for one in zip(*by_group, strict=True)]
    return torch.cat(found)[None].transpose(1, 2)
