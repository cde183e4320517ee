"""CenterNet 2D: targets in a view's pixels, and their loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.canvas_labels import Boxes
from lemumo_core.losses.center_loss import Regressed, center_loss, l1_error
from lemumo_core.losses.centers import (
    MOST_RADIUS,
    CenterTargets,
    cells_of,
    gaussian_heatmap,
    keep_nearest,
    overlap_radius,
    targets_at_centers,
    targets_in_3x3,
    without_regions,
)
from lemumo_core.losses.loss import Loss
from lemumo_core.metrics.objects import ObjectFilter

PAPER_RADII = 2.0, 7.0


class RawDetections2d(NamedTuple):
    """Predictions of a 2D head in every cell, each (B, channels, h, w).

    Attributes:
        heatmap: class logits (C).
        offset: of the box's centre in the cell, in cells (x, y).
        log_size: of (width, height) in cells.
    """

    heatmap: Tensor
    offset: Tensor
    log_size: Tensor

    @property
    def regressed(self) -> dict[str, Tensor]:
        """Maps that a decoder reads at the peaks, by name."""
        return {"offset": self.offset, "log_size": self.log_size}


@dataclass(frozen=True)
class CenterNet2dLoss:
    """Loss of the deploy family's 2D head, all terms of weight 1, per object to be found.

    Of objects whose centres lie in one cell the smallest is to be found. One that is less visible
    than ``counted`` asks is neither to be found nor held against the head. The size of Gaussians
    is ``overlap_radius``, values are regressed in the 3 x 3 cells around centres.

    Attributes:
        stride: pixels of the view to a cell, the head's.
        counted: which objects count.
    """

    stride: int
    counted: ObjectFilter = field(default_factory=ObjectFilter)
    _regressed_at = staticmethod(targets_in_3x3)

    def __call__(self, raw: RawDetections2d, boxes: Boxes, intrinsics: Tensor) -> Loss:
        """Return the loss of one batch, the same on every rank.

        Args:
            raw: the head's output for B views.
            boxes: of these views; class ids below C, negative for padding.
            intrinsics: not looked at; 3D heads take them.

        Returns:
            Terms by the names of the head's outputs.
        """
        classes, height, width = raw.heatmap.shape[1:]
        with torch.no_grad():
            targets = self.targets(boxes, (classes, height, width))
        regressed = {
            "offset": Regressed((raw.offset,), l1_error),
            "log_size": Regressed((raw.log_size,), l1_error),
        }
        return center_loss(raw.heatmap, regressed, targets, self._regressed_at)

    def targets(self, boxes: Boxes, shape: tuple[int, int, int]) -> CenterTargets:
        """Return what a head with heatmaps of a shape (C, h, w) should predict of boxes."""
        low, high = boxes.boxes_2d.float().split(2, dim=-1)
        size = (high - low) / self.stride
        cells = cells_of((low + high) / 2, self.stride, shape[1:])
        cells = cells._replace(inside=cells.inside & (boxes.class_ids >= 0) & (size > 0).all(-1))
        radius, most = self._radius(size)
        cell = cells.row * shape[2] + cells.column
        valid = ~(boxes.visibility < self.counted.min_visibility) & cells.inside
        heatmap = gaussian_heatmap(cells, boxes.class_ids, radius, most, shape)
        return CenterTargets(
            heatmap=without_regions(heatmap, boxes.ignore, self.stride),
            labelled=boxes.known_2d,
            class_ids=boxes.class_ids,
            cell=cell,
            valid=keep_nearest(cell, valid, size.prod(-1), shape[1] * shape[2]),
            order=size.prod(-1),
            values={"offset": cells.offset, "log_size": size.clamp(min=1e-4).log()},
        )

    def _radius(self, size: Tensor) -> tuple[Tensor, float]:
        """Return radii (B, K, 2), cells, of Gaussians for sizes (B, K, 2), and their bound."""
        return overlap_radius(size), MOST_RADIUS


@dataclass(frozen=True)
class PaperCenterNet2dLoss(CenterNet2dLoss):
    """Loss of the paper family's 2D head.

    Radii are 0.6 of the longer side, within 2 and 7 cells, and values are regressed at the centres
    alone, as in the paper's 3D detection.
    """

    _regressed_at = staticmethod(targets_at_centers)

    def _radius(self, size: Tensor) -> tuple[Tensor, float]:
        longer = size.amax(-1, keepdim=True)
        return (0.6 * longer).round().clamp(*PAPER_RADII).expand(-1, -1, 2), PAPER_RADII[1]
