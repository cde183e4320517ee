"""Ground truth in views of a batch: labels take the nearest pixel, boxes move and are mirrored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lemumo_core.data.canvas_labels import Boxes
from lemumo_core.data.crops import Crops
from lemumo_core.data.samples import Batch, map_tensors
from lemumo_core.frame import UNLABELLED


@dataclass(frozen=True, eq=False)
class ViewLabels:
    """Ground truth of R views.

    Attributes:
        label_map: uint8 (R, h, w), 255 = unlabelled. Where the source's label map is unlabelled, a
            pixel carries the label of the LiDAR return that it shows.
        depth_m: float32 (R, h, w), metres, NaN = unknown. Where the source has no dense depth, a
            pixel carries the depth of the nearest return in it.
        boxes: of the view, mirrored where it is. Objects outside of it are kept; their 2D boxes,
            cut at its borders, are empty.
        masked: float32 (R, 3, h, w), of the nearest of the returns that were masked, the depth,
            metres, NaN where there is none, and how far right of the pixel's centre, and below, it
            lies, pixels. It is what the LiDAR measured, as real masked returns are: where dense
            depth knows a nearer surface, the two differ. None unless any are masked.
    """

    label_map: Tensor
    depth_m: Tensor
    boxes: Boxes
    masked: Tensor | None = None


def labels_in_views(
    batch: Batch, crops: Crops, depth_m: Tensor, point_labels: Tensor | None
) -> ViewLabels | None:
    """Return the ground truth of a batch in views of it; None without any.

    Args:
        batch: B samples.
        crops: R of them.
        depth_m: (R, h, w), of the nearest return of each pixel; inf where there is none.
        point_labels: (R, h, w), of the same returns.
    """
    labels = batch.labels
    if labels is None or point_labels is None:
        return None
    sample = torch.arange(len(crops), device=depth_m.device)[:, None, None] % len(batch)
    at = sample, crops.rows.nearest()[:, :, None], crops.columns.nearest()[:, None]
    label_map, dense_m = labels.label_map[at], labels.depth_m[at]
    sparse_m = torch.where(depth_m < math.inf, depth_m, math.nan)
    views = len(crops) // len(batch)
    return ViewLabels(
        label_map=torch.where(label_map == UNLABELLED, point_labels, label_map),
        depth_m=torch.where(dense_m.isnan(), sparse_m, dense_m),
        boxes=_boxes(map_tensors(labels.boxes, _repeated(views)), crops),
    )


def _boxes(boxes: Boxes, crops: Crops) -> Boxes:
    """Move boxes on the canvas, one row a view, into the views."""
    exists = boxes.class_ids >= 0
    flipped, upended = (flag[:, None] & exists for flag in (crops.flipped, crops.upended))
    u, v = boxes.centers.unbind(-1)
    boxes_3d = torch.where(flipped[..., None], _mirrored(boxes.boxes_3d), boxes.boxes_3d)
    upside_down = torch.cat([boxes_3d[..., :1], -boxes_3d[..., 1:2], boxes_3d[..., 2:]], dim=-1)
    return replace(
        boxes,
        boxes_3d=torch.where(upended[..., None], upside_down, boxes_3d),
        centers=torch.stack([crops.columns.position(u), crops.rows.position(v)], dim=-1),
        boxes_2d=_cut(boxes.boxes_2d, crops),
        ignore=_cut(boxes.ignore, crops),
    )


def _cut(boxes_2d: Tensor, crops: Crops) -> Tensor:
    """Move 2D boxes (R, K, 4) on the canvas into the views, and cut them at their borders."""
    low_u, low_v, high_u, high_v = boxes_2d.unbind(-1)
    across = [crops.columns.position(end) for end in (low_u, high_u)]
    down = [crops.rows.position(end) for end in (low_v, high_v)]
    lows, highs = (
        [pick(*ends) for ends in (across, down)] for pick in (torch.minimum, torch.maximum)
    )
    last = (crops.size[1] - 1.0, crops.size[0] - 1.0) * 2
    cut = [end.clamp(0.0, most) for end, most in zip((*lows, *highs), last, strict=True)]
    return torch.stack(cut, dim=-1)


def _mirrored(boxes_3d: Tensor) -> Tensor:
    """Mirror boxes (..., 7) in x.

    A box's length points along (cos yaw, 0, -sin yaw); its mirror image along (-cos yaw, 0,
    -sin yaw), which is yaw' = pi - yaw.
    """
    x, y, z, *size, yaw = boxes_3d.unbind(-1)
    turned = torch.remainder(2 * math.pi - yaw, 2 * math.pi) - math.pi  # pi - yaw, in [-pi, pi)
    return torch.stack([-x, y, z, *size, turned], dim=-1)


def _repeated(views: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: rows.repeat(views, *[1] * (rows.ndim - 1))
