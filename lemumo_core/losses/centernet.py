"""CenterNet 3D: targets in a view's camera frame, and their loss (arXiv 1904.07850, 2603.24327)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lemumo_core.data.samples import Boxes
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
from lemumo_core.metrics.objects import ObjectFilter
from lemumo_core.model.heads.centernet import RawDetections

NEAR_M = 0.1


@dataclass(frozen=True)
class CenterNetLoss:
    """Loss of a ``CenterNetHead``, all terms of weight 1, per object to be found.

    An object is to be found where it counts (``counted``) and its centre lies in the view. One
    that does not count is not held against the head either. Of objects in one cell the nearest
    is to be found.

    Attributes:
        stride: pixels of the view to a cell, the head's.
        preset: of the radius of Gaussians. ``probe``: the paper's rule; ``deploy``: by the size of
            the projected box (``overlap_radius``).
        counted: which objects count.
    """

    stride: int
    preset: str = "deploy"
    counted: ObjectFilter = field(default_factory=ObjectFilter)

    def __post_init__(self) -> None:
        check_preset(self.preset)

    def __call__(self, raw: RawDetections, boxes: Boxes, intrinsics: Tensor) -> Loss:
        """Loss of one batch, the same on every rank.

        Args:
            raw: the head's output for B views.
            boxes: of these views.
            intrinsics: float32 (B, 3, 3) of these views.

        Returns:
            Terms by the names of the head's outputs.
        """
        classes, height, width = raw.heatmap.shape[1:]
        targets = self.targets(boxes, intrinsics, (classes, height, width))
        return center_loss(raw._asdict(), targets, around=self.preset == "deploy")

    @torch.no_grad()
    def targets(
        self, boxes: Boxes, intrinsics: Tensor, shape: tuple[int, int, int]
    ) -> CenterTargets:
        """What a head with heatmaps of a shape (C, h, w) should say of B views.

        Where a centre is, the boxes say (``Boxes.centers``), since a view knows no lens
        distortion; the decoder's rays are bent accordingly (``inference.pipeline``).

        Args:
            boxes: class ids below C; negative for padding.
            intrinsics: float32 (B, 3, 3) of the views.
        """
        _, z, size, yaw = boxes.boxes_3d.float().split([2, 1, 3, 1], dim=-1)
        cells = cells_of(boxes.centers, self.stride, shape[1:])
        real = (boxes.class_ids >= 0) & (z[..., 0] >= NEAR_M)
        cells = cells._replace(inside=cells.inside & real)
        if self.preset == "probe":
            radius, most = _paper_radius(size, z, shape[1:])
        else:
            focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)[:, None]
            extent = _extents(size, yaw) * focal / z.clamp(min=NEAR_M) / self.stride
            radius, most = overlap_radius(extent), MOST_RADIUS
        cell = cells.row * shape[2] + cells.column
        counts = self.counted.counts(z[..., 0], boxes.visibility, boxes.num_points) & cells.inside
        return CenterTargets(
            heatmap=gaussian_heatmap(cells, boxes.class_ids, radius, most, shape),
            labelled=boxes.known_3d,
            class_ids=boxes.class_ids,
            cell=cell,
            counts=first_in_cell(cell, counts, z[..., 0], shape[1] * shape[2]),
            order=z[..., 0],
            values={
                "offset": cells.offset,
                "log_size": size.clamp(min=1e-4).log(),
                "log_depth": z.clamp(min=0.0).log1p(),
                "rotation": torch.cat([yaw.sin(), yaw.cos()], dim=-1),
            },
        )


def _extents(size: Tensor, yaw: Tensor) -> Tensor:
    """Width and height (B, K, 2), metres, of boxes seen along the optical axis."""
    length, width, height = size.split(1, dim=-1)
    across = length * yaw.cos().abs() + width * yaw.sin().abs()
    return torch.cat([across, height], dim=-1)


def _paper_radius(size: Tensor, z: Tensor, grid: tuple[int, int]) -> tuple[Tensor, float]:
    """Radii (B, K, 2), cells, of the paper's code, and their bound; focal length one view."""
    cells = max(grid)
    base = round(2 * cells / 14)
    most = max(2 * base, cells // 4)
    extent = cells * size[..., :2].amax(-1, keepdim=True) / z.clamp(min=1.0)
    return (0.6 * extent).round().clamp(base, most).expand(-1, -1, 2), float(most)
