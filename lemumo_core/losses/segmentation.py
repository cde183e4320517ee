"""Semantic segmentation: cross entropy with balanced classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks
from lemumo_core.frame import UNLABELLED
from lemumo_core.losses.loss import Loss

LEAST_WEIGHT, MOST_WEIGHT = 0.1, 10.0


@dataclass(frozen=True)
class SegmentationLoss:
    """Weighted mean over labelled pixels of the cross entropy.

    Logits are coarser than labels: each pixel takes its cell's. That is the cross entropy
    of a cell with the shares of the classes in it, so no label is lost or resampled, and sparse
    ones are found.

    The weight of a class is (median of the classes' frequencies / its own)^balance, clipped to
    [0.1, 10], over the labels of this batch on all ranks.

    Attributes:
        balance: 1 is median frequency balancing (arXiv 1411.4734), as in the paper's probe; 0
            weighs pixels equally; 0.5, the default, lies between.
    """

    balance: float = 0.5

    def __call__(self, logits: Tensor, label_map: Tensor) -> Loss:
        """Loss of one batch, the same on every rank; 0 where nothing is labelled.

        Args:
            logits: (B, C, h, w).
            label_map: uint8 (B, H, W) of the same views, ids below C, 255 = unlabelled.

        Returns:
            Term ``segmentation``.

        Raises:
            ValueError: H, W are no multiple of h, w.
        """
        x = logits.to(torch.promote_types(logits.dtype, torch.float32))
        shares = class_counts(label_map, x.shape[1:]).to(x.dtype)
        sums = -(shares * x.log_softmax(1)).sum((0, 2, 3))
        sums, counts = mean_over_ranks(torch.stack([sums, shares.sum((0, 2, 3))]))
        weights = self._weights(counts.detach())
        loss = (weights * sums).sum() / (weights * counts.detach()).sum().clamp(min=1e-6)
        return Loss(loss, {"segmentation": loss.detach()})

    def _weights(self, counts: Tensor) -> Tensor:
        """Weights (C,) from numbers of pixels (C,); 0 for a class that does not occur."""
        present = counts > 0
        median = torch.where(present, counts, torch.nan).nanmedian()
        weights = (median / counts.clamp(min=1e-6)).pow(self.balance)
        return torch.where(present, weights.clamp(LEAST_WEIGHT, MOST_WEIGHT), 0.0)


@torch.no_grad()
def class_counts(label_map: Tensor, shape: tuple[int, ...]) -> Tensor:
    """How many pixels of each class a cell holds: float32 (B, C, h, w).

    Args:
        label_map: uint8 (B, H, W), 255 = unlabelled.
        shape: (C, h, w).

    Raises:
        ValueError: H, W are no multiple of h, w.
    """
    (height, width), (classes, rows, columns) = label_map.shape[1:], shape
    if height % rows or width % columns:
        raise ValueError(f"labels of {height}x{width} do not divide into {rows}x{columns} cells")
    row = torch.arange(height, device=label_map.device) * rows // height
    column = torch.arange(width, device=label_map.device) * columns // width
    label = torch.where(label_map == UNLABELLED, classes, label_map.long())
    index = (label * rows + row[:, None]) * columns + column
    counts = torch.zeros(len(index), (classes + 1) * rows * columns, device=label_map.device)
    counts.scatter_add_(1, index.flatten(1), torch.ones_like(index.flatten(1), dtype=counts.dtype))
    return counts.view(-1, classes + 1, rows, columns)[:, :-1]
