"""LiDAR returns rendered in views of a batch, on its device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lemumo_core.data.crops import Crops
from lemumo_core.data.samples import Batch
from lemumo_core.depth_projection import OCCLUSION_RAD, OCCLUSION_RATIO
from lemumo_core.frame import UNLABELLED


def render_returns(
    batch: Batch, crops: Crops, shown: Tensor | None = None, offsets: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Render the nearest return of every pixel, as ``depth_projection.nearest_returns`` finds it.

    Of returns of equal depth in a pixel the smallest label wins, and the least offset, so that
    nothing depends on the order of a device's threads. A return that the camera does not see
    (``seen_returns``) gives its pixel no label.

    Args:
        batch: B samples.
        crops: R of them.
        shown: bool (R, N), which returns; None for all.
        offsets: whether the offsets are asked for.

    Returns:
        Depth (R, h, w), metres, inf where there is no return; its label (R, h, w), None where the
        batch has none; and the offsets (R, 2, h, w), how far right of the pixel's centre it lies,
        and how far below, pixels, 0 where there is none; or None.
    """
    (height, width), pixels = crops.size, math.prod(crops.size)
    views = len(crops) // len(batch)
    u, v, z = batch.returns.repeat(views, 1, 1).unbind(-1)
    column, row = crops.columns.pixel(u), crops.rows.pixel(v)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if shown is not None:
        inside = inside & shown
    # Returns outside share one more cell, dropped at the end: no shape depends on the content.
    cell = torch.where(inside, row * width + column, pixels).to(torch.int64)

    def least(values: Tensor, nothing: float) -> Tensor:
        """Render the least value of each pixel (R, h, w), ``nothing`` where there is none."""
        found = values.new_full((len(crops), pixels + 1), nothing)
        return found.scatter_reduce_(1, cell, values, "amin")

    nearest = least(z, math.inf)
    wins = z == nearest.gather(1, cell)
    places = None
    if offsets:
        found = [
            least(torch.where(wins, axis.position(at) - pixel, 1.0), 1.0)
            for axis, at, pixel in ((crops.columns, u, column), (crops.rows, v, row))
        ]
        places = torch.stack(found, dim=1)[..., :pixels]
        places = torch.where(nearest[:, None, :pixels] < math.inf, places, 0.0)
        places = places.unflatten(2, (height, width))
    depth_m = nearest[:, :pixels].view(-1, height, width)
    if batch.labels is None:
        return depth_m, None, places
    point_labels = batch.labels.point_labels.repeat(views, 1)
    wins &= seen_returns(batch, len(crops), shown)
    labels = least(torch.where(wins, point_labels, UNLABELLED), UNLABELLED)
    return depth_m, labels[:, :pixels].view(-1, height, width), places


def seen_returns(batch: Batch, rows: int, shown: Tensor | None = None) -> Tensor:
    """Return which of the shown returns the camera sees, as ``depth_projection.visible`` does.

    Args:
        batch: B samples.
        rows: R, a multiple of B.
        shown: bool (R, N), which returns; None for all.

    Returns:
        bool (R, N).
    """
    views = rows // len(batch)
    u, v, z = batch.returns.repeat(views, 1, 1).unbind(-1)
    shown = z < math.inf if shown is None else shown & (z < math.inf)
    intrinsics = batch.intrinsics.repeat(views, 1, 1)
    side = (intrinsics[:, :1, 0] * float(OCCLUSION_RAD)).clamp(min=1.0)
    # A square is at least a pixel wide: there are no more of them than pixels, and a border.
    height, width = batch.canvas.height + 2, batch.canvas.width + 2
    row, column = (
        torch.where(shown, ((at - center) / side).floor() - ((-0.5 - center) / side).floor(), 0.0)
        for at, center in ((v, intrinsics[:, 1, 2:]), (u, intrinsics[:, 0, 2:]))
    )
    cells = height * width
    cell = torch.where(shown, row * width + column, cells).to(torch.int64)
    nearest = z.new_full((rows, cells + 1), math.inf)
    nearest.scatter_reduce_(1, cell, z, "amin")
    return shown & (z <= OCCLUSION_RATIO * nearest.gather(1, cell))
