"""Stochastic depth (arXiv 1603.09382): a share of the samples goes without a residual branch.

The samples that go without are not computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lemumo_core.distributed import rows_of_rank


@dataclass(frozen=True)
class Path:
    """Which of B samples take a residual branch.

    Attributes:
        kept: int64, their numbers; while compiling, when no shape may depend on a draw, float32
            (B,), by what each sample's branch is multiplied. None where all take it.
        keep: probability of taking it.
    """

    kept: Tensor | None = None
    keep: float = 1.0

    def add(self, x: Tensor, branch: Callable[[Tensor], Tensor], source: Tensor) -> Tensor:
        """Return x + branch(source), without the branch for samples that do not take it.

        Args:
            x: (B, rows, D).
            branch: from tokens to (B, rows, D).
            source: (B, N, D).
        """
        if self.kept is None:
            return x + branch(source)
        if self.kept.is_floating_point():
            return x + branch(source) * self.kept.view(-1, 1, 1)
        if x is source:
            x, taken = _Take.apply(x, self.kept)
        else:
            taken = source.index_select(0, self.kept)
        joined: Tensor = _Join.apply(x, self.kept, branch(taken), 1.0 / self.keep)
        return joined


WHOLE = Path()


def draw(rates: Sequence[float], x: Tensor) -> list[Path]:
    """Draw the paths of branches that samples x (B, ...) take one after the other.

    They are drawn on the CPU, from torch's global generator, and copied to the device of x at once.

    Args:
        rates: share of the samples that go without each branch.
        x: whose samples.
    """
    keep = {i: 1.0 - rate for i, rate in enumerate(rates) if rate > 0.0}
    paths = [WHOLE] * len(rates)
    if not keep:
        return paths
    parts: Sequence[Tensor]
    if torch.compiler.is_compiling():
        parts = _draw_scales(x.detach(), list(keep.values())).unbind()
    else:
        numbers = [mask.nonzero().flatten() for mask in _masks(len(x), keep.values())]
        together = torch.cat(numbers).to(x.device, non_blocking=True)
        parts = together.split([len(one) for one in numbers])
    for i, part in zip(keep, parts, strict=True):
        paths[i] = Path(part, keep[i])
    return paths


def drop_path(x: Tensor, branch: Callable[[Tensor], Tensor], rate: float) -> Tensor:
    """Return x + branch(x), without the branch for a share of the samples of x (B, N, D)."""
    return draw([rate], x)[0].add(x, branch, x)


def _masks(rows: int, keep: Iterable[float]) -> list[Tensor]:
    def draw_mask(share: float) -> Tensor:
        return rows_of_rank(rows, lambda count: torch.empty(count).bernoulli_(share))

    return [draw_mask(share) for share in keep]


@torch.library.custom_op(
    "lemumo::draw_scales", mutates_args=(), tags=torch.Tag.nondeterministic_seeded
)
def _draw_scales(x: Tensor, keep: Sequence[float]) -> Tensor:
    """Draw by what branches of samples x are multiplied, float32 (branches, B): 0 or 1 / keep.

    A compiler takes an operator of one's own as it is, and so the draws are those of ``draw``.
    """
    masks = torch.stack([mask / p for mask, p in zip(_masks(len(x), keep), keep, strict=True)])
    return masks.to(x.device, non_blocking=True)


@_draw_scales.register_fake
def _(x: Tensor, keep: Sequence[float]) -> Tensor:
    return x.new_empty(len(keep), len(x), dtype=torch.float32)


class _Take(torch.autograd.Function):
    """x, and some of its samples; in the backward pass their gradients are added in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(kept)
        return x.view_as(x), x.index_select(0, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, of_taken: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return of_x.index_add(0, kept, of_taken), None


class _Join(torch.autograd.Function):
    """x, with a branch, of any float dtype, added to some of its samples."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, branch: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.alpha, ctx.dtype = alpha, branch.dtype
        return x.index_add(0, kept, branch.to(x.dtype), alpha=alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (kept,) = ctx.saved_tensors
        of_branch = gradient.index_select(0, kept)
        if ctx.dtype == of_branch.dtype:
            return gradient, None, of_branch.mul_(ctx.alpha), None
        rounded = torch.empty_like(of_branch, dtype=ctx.dtype)
        return gradient, None, torch.mul(of_branch, ctx.alpha, out=rounded), None
