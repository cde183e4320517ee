"""Dense depth in metres with a confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.presets import check_preset
from lemumo_core.metrics.depth import RATIO

LEAST = 1e-7
"""A probability below it is as surprising as this one."""


@dataclass(frozen=True)
class DepthLoss:
    """Loss of a ``DepthHead`` on cells with truth.

    ``deploy``: L1 of log(1 + depth), the scale in which the head predicts. Like L1 in metres it
    asks for the median, but far pixels do not drown near ones. Confidence is the probability that
    the depth is within a factor of 1.25 of the truth (``metrics.depth``'s delta), learnt by cross
    entropy, which leaves the depth alone. Each is a mean over the cells of all ranks.

    ``probe``: the paper's, the mean over views of the mean square error in metres; a view without
    truth counts as 0. No confidence.

    Attributes:
        preset: ``probe`` or ``deploy``.
        max_depth_m: deeper truth is no truth.
    """

    preset: str = "deploy"
    max_depth_m: float = 80.0

    def __post_init__(self) -> None:
        check_preset(self.preset)

    def __call__(self, depth_m: Tensor, confidence: Tensor, true_m: Tensor) -> Loss:
        """Loss of one batch, the same on every rank.

        Args:
            depth_m, confidence: (B, h, w), the head's output.
            true_m: (B, H, W) of the same views, ``ViewLabels.depth_m``.

        Returns:
            Terms ``depth`` and, for ``deploy``, ``confidence``; the total is their sum.

        Raises:
            ValueError: as ``pool_depth``.
        """
        depth_m = depth_m.to(torch.promote_types(depth_m.dtype, torch.float32))
        how = "mean" if self.preset == "probe" else "median"
        target = pool_depth(true_m, depth_m.shape[1:], how, self.max_depth_m)
        valid = ~target.isnan()
        target = torch.where(valid, target, 1.0).to(depth_m.dtype)
        if self.preset == "probe":
            square = torch.where(valid, (depth_m - target).square(), 0.0).sum((1, 2))
            mean = mean_over_ranks((square / valid.sum((1, 2)).clamp(min=1)).mean())
            return Loss(mean, {"depth": mean.detach()})
        error = (depth_m.log1p() - target.log1p()).abs()
        close = (depth_m < RATIO * target) & (depth_m * RATIO > target)
        confidence = confidence.to(depth_m.dtype)
        # Not functional.binary_cross_entropy, which raises an error for NaN.
        surprise = -torch.where(close, confidence, 1.0 - confidence).clamp(min=LEAST).log()
        sums = [torch.where(valid, term, 0.0).sum() for term in (error, surprise)]
        *means, count = mean_over_ranks(torch.stack([*sums, valid.sum().to(depth_m.dtype)]))
        error, surprise = (mean / count.clamp(min=1.0 / world_size()) for mean in means)
        return Loss(error + surprise, {"depth": error.detach(), "confidence": surprise.detach()})


@torch.no_grad()
def pool_depth(
    depth_m: Tensor, size: tuple[int, ...], how: str = "median", max_depth_m: float = 80.0
) -> Tensor:
    """Depth maps (B, H, W) at a size (h, w) that divides theirs: each cell by what lies in it.

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
