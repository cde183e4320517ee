"""Dense depth in metres with a confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss
from lemumo_core.metrics.depth import RATIO

LEAST = 1e-7
"""A probability below it costs as much as this one."""


@dataclass(frozen=True)
class DepthLoss:
    """Loss of the deploy family's ``DepthHead`` on cells with truth.

    L1 of log(1 + depth), the scale in which the head predicts. Like L1 in metres it asks for the
    median, but far pixels do not drown near ones. Confidence is the probability that the depth is
    within a factor of 1.25 of the truth (``metrics.depth``'s delta), learnt by binary cross
    entropy, which leaves the depth alone. Each is a mean over the cells of all ranks.

    Attributes:
        max_depth_m: deeper truth is no truth.
    """

    max_depth_m: float = 80.0

    def __call__(self, depth_m: Tensor, confidence: Tensor, true_m: Tensor) -> Loss:
        """Return the loss of one batch, the same on every rank.

        Args:
            depth_m: (B, h, w), the head's depth, metres.
            confidence: (B, h, w), the head's, in [0, 1].
            true_m: (B, H, W) of the same views, ``ViewLabels.depth_m``.

        Returns:
            Terms ``depth`` and ``confidence``; the total is their sum.

        Raises:
            ValueError: as ``pool_depth``.
        """
        depth_m, target, valid = _on_cells(depth_m, true_m, "median", self.max_depth_m)
        error = (depth_m.log1p() - target.log1p()).abs()
        close = (depth_m < RATIO * target) & (depth_m * RATIO > target)
        confidence = confidence.to(depth_m.dtype)
        # Not functional.binary_cross_entropy, which raises an error for NaN.
        bce = -torch.where(close, confidence, 1.0 - confidence).clamp(min=LEAST).log()
        sums = [torch.where(valid, term, 0.0).sum() for term in (error, bce)]
        *means, count = mean_over_ranks(torch.stack([*sums, valid.sum().to(depth_m.dtype)]))
        error, bce = (mean / count.clamp(min=1.0 / world_size()) for mean in means)
        return Loss(error + bce, {"depth": error.detach(), "confidence": bce.detach()})


@dataclass(frozen=True)
class PaperDepthLoss:
    """Loss of the paper's depth head: the mean over views of the mean square error in metres.

    A view without truth counts as 0. There is no confidence.

    Attributes:
        max_depth_m: deeper truth is no truth.
    """

    max_depth_m: float = 80.0

    def __call__(self, depth_m: Tensor, confidence: Tensor, true_m: Tensor) -> Loss:
        """Return the loss of one batch, as ``DepthLoss`` but with the term ``depth`` alone."""
        depth_m, target, valid = _on_cells(depth_m, true_m, "mean", self.max_depth_m)
        square = torch.where(valid, (depth_m - target).square(), 0.0).sum((1, 2))
        mean = mean_over_ranks((square / valid.sum((1, 2)).clamp(min=1)).mean())
        return Loss(mean, {"depth": mean.detach()})


def _on_cells(
    depth_m: Tensor, true_m: Tensor, how: str, max_depth_m: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return predicted depth, true depth and where that is known, (B, h, w) each.

    Predicted depth is in at least float32; true depth is 1 where unknown.
    """
    depth_m = depth_m.to(torch.promote_types(depth_m.dtype, torch.float32))
    target = pool_depth(true_m, depth_m.shape[1:], how, max_depth_m)
    valid = ~target.isnan()
    return depth_m, torch.where(valid, target, 1.0).to(depth_m.dtype), valid


@torch.no_grad()
def pool_depth(
    depth_m: Tensor, size: tuple[int, ...], how: str = "median", max_depth_m: float = 80.0
) -> Tensor:
    """Reduce depth maps (B, H, W) to a size (h, w) that divides theirs, cell by cell.

    The median takes the mean of the two middle depths, or the nearer one where an edge lies
    between them (a factor of 1.25). It lies on a surface, where the mean of a cell with an edge is
    in mid-air, and it has no bias on the ground, where the nearest depth is 3 m short at 44 m.

    Args:
        depth_m: NaN where unknown.
        size: (h, w).
        how: ``median``, or ``mean`` as in the paper.
        max_depth_m: depths beyond it, and those not positive, are left out.

    Returns:
        (B, h, w), NaN where a cell holds none.

    Raises:
        ValueError: H, W are no multiple of h, w.
    """
    (height, width), (rows, columns) = depth_m.shape[1:], size
    if height % rows or width % columns or height // rows != width // columns:
        raise ValueError(f"depth of {height}x{width} does not divide into {rows}x{columns} cells")
    stride = height // rows
    cells = depth_m.unflatten(2, (columns, stride)).unflatten(1, (rows, stride))
    cells = cells.transpose(2, 3).flatten(3)
    valid = (cells > 0) & (cells <= max_depth_m)
    if how == "mean":
        return torch.where(valid, cells, torch.nan).nanmean(-1)
    ordered = torch.where(valid, cells, torch.inf).sort(-1).values
    count = valid.sum(-1, keepdim=True)
    middle = torch.cat([(count - 1).clamp(min=0) // 2, count // 2], dim=-1)
    near, far = ordered.gather(-1, middle.clamp(max=stride * stride - 1)).unbind(-1)
    median = torch.where(far < RATIO * near, (near + far) / 2, near)
    return torch.where(count[..., 0] > 0, median, torch.nan)
