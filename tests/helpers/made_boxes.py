"""Objects from a few numbers, seen by a pinhole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lemumo_core.data.canvas_labels import Boxes


def made_boxes(
    boxes_3d: Tensor,
    class_ids: Tensor,
    intrinsics: Tensor,
    visibility: Tensor | None = None,
    num_points: Tensor | None = None,
) -> Boxes:
    """3D boxes (B, K, 7) with ids (B, K) in images of intrinsics (B, 3, 3); no 2D boxes.

    Centres behind the camera have no pixel, as in ``Camera.project``.
    """
    batch, count = class_ids.shape
    projected = boxes_3d[..., :3] @ intrinsics.transpose(1, 2)
    ahead = projected[..., 2:] > 0
    unknown = torch.full((batch, count), math.nan)
    return Boxes(
        boxes_3d=boxes_3d,
        centers=torch.where(ahead, projected[..., :2] / projected[..., 2:], math.nan),
        boxes_2d=torch.zeros(batch, count, 4),
        class_ids=class_ids,
        visibility=unknown if visibility is None else visibility,
        num_points=torch.full((batch, count), -1) if num_points is None else num_points,
        ignore=torch.zeros(batch, 0, 4),
        known_3d=torch.ones(batch, dtype=torch.bool),
        known_2d=torch.zeros(batch, dtype=torch.bool),
    )
