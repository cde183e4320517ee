"""CenterNet 2D: targets in a view's pixels, and their loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lemumo_core.losses.centers import (
    MOST_RADIUS,
    CenterTargets,
    cells_of,
    center_loss,
    first_in_cell,
    gaussian_heatmap,
    overlap_radius,
)
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.presets import check_preset
from lemumo_core.model.heads.centernet_2d import RawDetections2d

PAPER_RADII = 2.0, 7.0


@dataclass(frozen=True)
class CenterNet2dLoss:
    """Loss of a ``CenterNet2dHead``, all terms of weight 1, per object to be found.

    Of objects whose centres lie in one cell the smallest is to be found.

    Attributes:
        stride: pixels of the view to a cell, the head's.
        preset: of the radius of Gaussians. ``probe``: 0.6 of the longer side, within 2 and 7 cells,
            as the paper's; ``deploy``: ``overlap_radius``.
    """

    stride: int
    preset: str = "deploy"

    def __post_init__(self) -> None:
        check_preset(self.preset)

    def __call__(
        self,
        raw: RawDetections2d,
        boxes_2d: Tensor,
        class_ids: Tensor,
        counts: Tensor,
        labelled: Tensor,
    ) -> Loss:
        """Loss of one batch, the same on every rank.

        Args:
            raw: the head's output for B views.
            boxes_2d: float (B, K, 4) x_min, y_min, x_max, y_max in pixels of the view.
            class_ids: int64 (B, K), below C; negative for padding.
            counts: bool (B, K); an object that does not count is neither wanted nor forbidden.
            labelled: bool (B,), whether the objects of a view are known.

        Returns:
            Terms by the names of the head's outputs.
        """
        classes, height, width = raw.heatmap.shape[1:]
        shape = classes, height, width
        targets = self.targets(boxes_2d, class_ids, counts, labelled, shape)
        return center_loss(raw._asdict(), targets, around=self.preset == "deploy")

    @torch.no_grad()
    def targets(
        self,
        boxes_2d: Tensor,
        class_ids: Tensor,
        counts: Tensor,
        labelled: Tensor,
        shape: tuple[int, int, int],
    ) -> CenterTargets:
        """What a head with heatmaps of a shape (C, h, w) should say; arguments as in a call."""
        low, high = boxes_2d.float().split(2, dim=-1)
        size = (high - low) / self.stride
        cells = cells_of((low + high) / 2, self.stride, shape[1:])
        cells = cells._replace(inside=cells.inside & (class_ids >= 0) & (size > 0).all(-1))
        if self.preset == "probe":
            longer = size.amax(-1, keepdim=True)
            radius = (0.6 * longer).round().clamp(*PAPER_RADII).expand(-1, -1, 2)
            most = PAPER_RADII[1]
        else:
            radius, most = overlap_radius(size), MOST_RADIUS
        cell = cells.row * shape[2] + cells.column
        counts = counts & cells.inside
        return CenterTargets(
            heatmap=gaussian_heatmap(cells, class_ids, radius, most, shape),
            labelled=labelled,
            class_ids=class_ids,
            cell=cell,
            counts=first_in_cell(cell, counts, size.prod(-1), shape[1] * shape[2]),
            order=size.prod(-1),
            values={"offset": cells.offset, "log_size": size.clamp(min=1e-4).log()},
        )
