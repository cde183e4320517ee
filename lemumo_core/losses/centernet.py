"""CenterNet 3D: targets in a view's camera frame, and their loss (arXiv 1904.07850, 2603.24327)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.canvas_labels import Boxes
from lemumo_core.losses.center_loss import Regressed, angle_error, center_loss, l1_error
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
from lemumo_core.losses.depth_mixture import DepthMixture, laplace_nll
from lemumo_core.losses.loss import Loss
from lemumo_core.metrics.objects import ObjectFilter

NEAR_M = 0.1
REGRESSED = ("offset", "log_size", "log_depth", "rotation")


class RawDetections(NamedTuple):
    """Predictions of a 3D head in every cell, each (B, channels, h, w).

    Attributes:
        heatmap: class logits (C).
        offset: of the centre in the cell, in cells (x, y).
        log_size: of (length, width, height) in metres.
        log_depth: log(1 + Z), Z in metres.
        rotation: sin, cos of the yaw.
        depth_confidence: probability that the depth is no more than ``REACH_M`` off; None of the
            paper's heads.
        depth: distribution of Z; None of the paper's heads.
    """

    heatmap: Tensor
    offset: Tensor
    log_size: Tensor
    log_depth: Tensor
    rotation: Tensor
    depth_confidence: Tensor | None = None
    depth: DepthMixture | None = None

    @property
    def regressed(self) -> dict[str, Tensor]:
        """Maps that a decoder reads at the peaks, by the names ``REGRESSED``."""
        return {name: getattr(self, name) for name in REGRESSED}


@dataclass(frozen=True)
class CenterNetLoss:
    """Loss of the deploy family's 3D head, all terms of weight 1, per object to be found.

    An object is to be found where it counts (``counted``) and its centre lies in the view. One
    that does not count is not held against the head either. Of objects in one cell the nearest
    is to be found. The size of Gaussians is that of the projected box (``overlap_radius``), values
    are regressed in the 3 x 3 cells around centres, and depth by its likelihood.

    Attributes:
        stride: pixels of the view to a cell, the head's.
        counted: which objects count.
    """

    stride: int
    counted: ObjectFilter = field(default_factory=ObjectFilter)
    _regressed_at = staticmethod(targets_in_3x3)

    def __call__(self, raw: RawDetections, boxes: Boxes, intrinsics: Tensor) -> Loss:
        """Return the loss of one batch, the same on every rank.

        Args:
            raw: the head's output for B views.
            boxes: of these views.
            intrinsics: float32 (B, 3, 3) of these views.

        Returns:
            Terms by the names of the head's outputs.
        """
        classes, height, width = raw.heatmap.shape[1:]
        with torch.no_grad():
            targets = self.targets(boxes, intrinsics, (classes, height, width))
        return center_loss(raw.heatmap, self._regressed(raw), targets, self._regressed_at)

    def targets(
        self, boxes: Boxes, intrinsics: Tensor, shape: tuple[int, int, int]
    ) -> CenterTargets:
        """Return what a head with heatmaps of a shape (C, h, w) should predict of B views.

        Where a centre is, the boxes say (``Boxes.centers``), since a view knows no lens
        distortion; the decoder's rays are bent accordingly (``inference.results``).

        Args:
            boxes: class ids below C; negative for padding.
            intrinsics: float32 (B, 3, 3) of the views.
            shape: (C, h, w).
        """
        _, z, size, yaw = boxes.boxes_3d.float().split([2, 1, 3, 1], dim=-1)
        cells = cells_of(boxes.centers, self.stride, shape[1:])
        real = (boxes.class_ids >= 0) & (z[..., 0] >= NEAR_M)
        cells = cells._replace(inside=cells.inside & real)
        radius, most = self._radius(boxes, intrinsics, shape[1:])
        cell = cells.row * shape[2] + cells.column
        valid = self.counted.counts(z[..., 0], boxes.visibility, boxes.num_points) & cells.inside
        heatmap = gaussian_heatmap(cells, boxes.class_ids, radius, most, shape)
        return CenterTargets(
            heatmap=without_regions(heatmap, boxes.ignore, self.stride),
            labelled=boxes.known_3d,
            class_ids=boxes.class_ids,
            cell=cell,
            valid=keep_nearest(cell, valid, z[..., 0], shape[1] * shape[2]),
            order=z[..., 0],
            values={
                "offset": cells.offset,
                "log_size": size.clamp(min=1e-4).log(),
                "log_depth": z.clamp(min=0.0).log1p(),
                "rotation": torch.cat([yaw.sin(), yaw.cos()], dim=-1),
            },
        )

    def _radius(
        self, boxes: Boxes, intrinsics: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, float]:
        """Return radii of Gaussians (B, K, 2) along x and y, cells, and their bound."""
        _, z, size, yaw = boxes.boxes_3d.float().split([2, 1, 3, 1], dim=-1)
        focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)[:, None]
        extent = _extents(size, yaw) * focal / z.clamp(min=NEAR_M) / self.stride
        return overlap_radius(extent), MOST_RADIUS

    def _regressed(self, raw: RawDetections) -> dict[str, Regressed]:
        assert raw.depth is not None, "the deploy family's 3D head predicts a distribution"
        return {
            "offset": Regressed((raw.offset,), l1_error),
            "log_size": Regressed((raw.log_size,), l1_error),
            "log_depth": Regressed(tuple(raw.depth), _depth_nll),
            "rotation": Regressed((raw.rotation,), angle_error),
        }


@dataclass(frozen=True)
class PaperCenterNetLoss(CenterNetLoss):
    """Loss of the paper's 3D head: its rule for radii, and L1 of log depth at the centres alone."""

    _regressed_at = staticmethod(targets_at_centers)

    def _radius(
        self, boxes: Boxes, intrinsics: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, float]:
        """Return those of the paper's code, whose focal length is one view."""
        _, z, size, _ = boxes.boxes_3d.float().split([2, 1, 3, 1], dim=-1)
        cells = max(grid)
        base = round(2 * cells / 14)
        most = max(2 * base, cells // 4)
        extent = cells * size[..., :2].amax(-1, keepdim=True) / z.clamp(min=1.0)
        return (0.6 * extent).round().clamp(base, most).expand(-1, -1, 2), float(most)

    def _regressed(self, raw: RawDetections) -> dict[str, Regressed]:
        return {
            "offset": Regressed((raw.offset,), l1_error),
            "log_size": Regressed((raw.log_size,), l1_error),
            "log_depth": Regressed((raw.log_depth,), l1_error),
            "rotation": Regressed((raw.rotation,), angle_error),
        }


def _extents(size: Tensor, yaw: Tensor) -> Tensor:
    """Width and height (B, K, 2), metres, of boxes seen along the optical axis."""
    length, width, height = size.split(1, dim=-1)
    across = length * yaw.cos().abs() + width * yaw.sin().abs()
    return torch.cat([across, height], dim=-1)


def _depth_nll(
    depths_m: Tensor, log_weights: Tensor, log_spread: Tensor, log_depth: Tensor
) -> Tensor:
    return laplace_nll(depths_m, log_weights, log_spread, log_depth.expm1())
