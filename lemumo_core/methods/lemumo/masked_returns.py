"""Masked LiDAR modelling: predict the returns of masked patches from all else the sensors saw.

Ours, beside the joint embedding. A log's own returns are the labels, as pixels are those of masked
autoencoders (arXiv 2111.06377; images with depth: MultiMAE, arXiv 2204.01678).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.pinned import to_device
from lemumo_core.data.views import View, transpose_rows
from lemumo_core.distributed import rows_of_rank
from lemumo_core.losses.depth import DepthLoss
from lemumo_core.losses.loss import Loss
from lemumo_core.model.config import PATCH


@dataclass(frozen=True)
class MaskedReturns:
    """Loss of the depth predicted for a view against all its returns, of which few were seen.

    It is the ``DepthLoss`` of fine-tuning, with returns for truth.

    Attributes:
        weight: weight beside the joint embedding's objective.
        ratio: probability that the returns of a patch are masked.
        max_depth_m: depth, metres, that 1 stands for in ``View.companion``; returns at 1 are no
            truth.
    """

    weight: float
    ratio: float = 0.5
    max_depth_m: float = 80.0

    @torch.no_grad()
    def mask(self, view: View, views: int) -> View:
        """Return the view without the returns of random patches, as if there were none.

        Draws from torch's global generator, on the CPU: the same rows on any number of ranks.

        Args:
            view: R rows, row v * B + b being view v of sample b.
            views: views of a sample.
        """
        height, width = view.companion.shape[1:3]
        # Drawn sample by sample, as ranks share them out.
        chance = transpose_rows(_draw_chances(view.companion), views)
        seen = (chance >= self.ratio).to(view.companion).unsqueeze(1)
        seen = functional.interpolate(seen, size=(height, width), mode="nearest")
        return replace(view, companion=view.companion * seen[:, 0, ..., None])

    def __call__(self, depth_m: Tensor, confidence: Tensor, view: View) -> Loss:
        """Compute the loss of one batch, the same on every rank.

        Args:
            depth_m: (R, h, w) metres, the depth head's output.
            confidence: (R, h, w), its confidence.
            view: the view with all its returns.

        Returns:
            Terms ``returns`` and ``returns_confidence``; the total is their sum, weighted.
        """
        value = view.companion[..., 0]
        returns_m = torch.where((value > 0) & (value < 1), value * self.max_depth_m, torch.nan)
        total, terms = DepthLoss(max_depth_m=self.max_depth_m)(depth_m, confidence, returns_m)
        named = {"returns": terms["depth"], "returns_confidence": terms["confidence"]}
        return Loss(self.weight * total, named)


@torch.library.custom_op(
    "lemumo::draw_chances", mutates_args=(), tags=torch.Tag.nondeterministic_seeded
)
def _draw_chances(maps: Tensor) -> Tensor:
    """Draw a number for each patch of maps (R, H, W, C), float32 (R, rows, columns) in [0, 1).

    A compiler takes an operator of one's own as it is, and so the draws are the same.
    """
    grid = [side // PATCH for side in maps.shape[1:3]]
    chances = rows_of_rank(len(maps), lambda count: torch.rand(count, *grid))
    return to_device(chances, maps.device)


@_draw_chances.register_fake
def _(maps: Tensor) -> Tensor:
    grid = [side // PATCH for side in maps.shape[1:3]]
    return maps.new_empty(len(maps), *grid, dtype=torch.float32)
