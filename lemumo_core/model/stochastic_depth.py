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

from lemumo_core.data.pinned import to_device
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
            x, taken = _Take.apply(x, None, self.kept)
        else:
            taken = source.index_select(0, self.kept)
        joined: Tensor = _Join.apply(x, branch(taken), 1.0 / self.keep, None, self.kept)
        return joined


WHOLE = Path()
Shape = tuple[int, int]
"""Samples of a group, and tokens of each."""


@dataclass(frozen=True)
class PackedPath:
    """Paths of groups of samples whose tokens are packed (``packing``).

    Attributes:
        paths: of the groups, drawn at the same rate.
        shapes: of the groups.
    """

    paths: Sequence[Path]
    shapes: Sequence[Shape]

    @property
    def taken(self) -> list[Shape]:
        """Shapes of what takes the branch."""
        return [
            (
                count if path.kept is None or path.kept.is_floating_point() else len(path.kept),
                length,
            )
            for path, (count, length) in zip(self.paths, self.shapes, strict=True)
        ]

    def add(self, x: Tensor, branch: Callable[[Tensor], Tensor], source: Tensor) -> Tensor:
        """As ``Path.add``, of tokens (1, T, D), all of which are computed."""
        kept = [path.kept for path in self.paths if path.kept is not None]
        if not kept:
            return x + branch(source)
        if kept[0].is_floating_point():
            lengths = (length for _, length in self.shapes)
            scales = [one.repeat_interleave(n) for one, n in zip(kept, lengths, strict=True)]
            return x + branch(source) * torch.cat(scales).view(1, -1, 1)
        x, taken = _Take.apply(source, self.shapes, *kept)
        alpha = 1.0 / self.paths[0].keep
        joined: Tensor = _Join.apply(x, branch(taken), alpha, self.shapes, *kept)
        return joined


def groups_of(x: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    """Return views (B, N, ...) of the groups of packed tokens (1, T, ...)."""
    parts = x.flatten(0, 1).split([count * length for count, length in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


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
        together = to_device(torch.cat(numbers), x.device)
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
    return to_device(masks, x.device)


@_draw_scales.register_fake
def _(x: Tensor, keep: Sequence[float]) -> Tensor:
    return x.new_empty(len(keep), len(x), dtype=torch.float32)


Shapes = Sequence[Shape] | None
"""Shapes of groups whose tokens are packed; None where samples are not packed."""


class _Take(torch.autograd.Function):
    """x, and some of its samples; in the backward pass their gradients are added in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shapes: Shapes, *kept: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*kept)
        ctx.shapes = shapes
        return x.view_as(x), _taken(x, shapes, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, of_taken: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        return _added(of_x, of_taken, 1.0, ctx.shapes, kept), None, *(None for _ in kept)


class _Join(torch.autograd.Function):
    """x, with a branch, of any float dtype, added to some of its samples."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor, alpha: float, shapes: Shapes, *kept: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*kept)
        ctx.alpha, ctx.dtype, ctx.shapes = alpha, branch.dtype, shapes
        return _added(x, branch.to(x.dtype), alpha, shapes, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        rest = None, None, *(None for _ in kept)
        of_branch = _taken(gradient, ctx.shapes, kept)
        if ctx.dtype == of_branch.dtype:
            return gradient, of_branch.mul_(ctx.alpha), *rest
        rounded = torch.empty_like(of_branch, dtype=ctx.dtype)
        return gradient, torch.mul(of_branch, ctx.alpha, out=rounded), *rest


def _taken(x: Tensor, shapes: Shapes, kept: Sequence[Tensor]) -> Tensor:
    """Return some samples of x, those of groups packed again."""
    if shapes is None:
        return x.index_select(0, kept[0])
    smaller = [(len(one), length) for one, (_, length) in zip(kept, shapes, strict=True)]
    taken = x.new_empty(1, sum(count * length for count, length in smaller), x.shape[-1])
    every = zip(groups_of(x, shapes), kept, groups_of(taken, smaller), strict=True)
    for group, numbers, out in every:
        torch.index_select(group, 0, numbers, out=out)
    return taken


def _added(
    x: Tensor, taken: Tensor, alpha: float, shapes: Shapes, kept: Sequence[Tensor]
) -> Tensor:
    """Return x, with alpha times a branch of some of its samples added to these."""
    if shapes is None:
        return x.index_add(0, kept[0], taken, alpha=alpha)
    smaller = [(len(one), length) for one, (_, length) in zip(kept, shapes, strict=True)]
    total = x.clone(memory_format=torch.contiguous_format)
    every = zip(groups_of(total, shapes), kept, groups_of(taken, smaller), strict=True)
    for group, numbers, added in every:
        group.index_add_(0, numbers, added, alpha=alpha)
    return total
