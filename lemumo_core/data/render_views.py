"""Rendering of views: all that is computed on the batch's device, for drawn crops and changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.crops import Crops
from lemumo_core.data.photometric import Changes
from lemumo_core.data.pinned import to_device
from lemumo_core.data.render_returns import render_returns, seen_returns
from lemumo_core.data.resampling import antialiased_taps, by_column, resample
from lemumo_core.data.return_masks import ReturnMasks, masked
from lemumo_core.data.samples import Batch
from lemumo_core.data.view_labels import ViewLabels, labels_in_views
from lemumo_core.preprocess import Inputs


@dataclass(frozen=True, eq=False)
class Shot:
    """How to cut R views, a multiple of B, from a batch.

    Attributes:
        crops: which part of the canvas each one shows.
        changes: of appearance.
        masks: of returns.
    """

    crops: Crops
    changes: Changes | None = None
    masks: ReturnMasks | None = None

    def to(self, device: torch.device) -> Shot:
        """Copy the shot to a device."""
        return Shot(
            self.crops.to(device),
            self.changes.to(device) if self.changes else None,
            ReturnMasks(*(to_device(x, device) for x in self.masks)) if self.masks else None,
        )


class Rendered(NamedTuple):
    """The computed part of a view; its crops are drawn."""

    inputs: Inputs
    labels: ViewLabels | None


def render_views(batch: Batch, shots: Sequence[Shot]) -> list[Rendered]:
    """Render the views of shots, which lie on the batch's device. It can be compiled."""
    with torch.autocast(batch.image.device.type, enabled=False):  # no colours in bfloat16
        image = by_column(batch.image)
        picture = None if batch.picture is None else by_column(batch.picture)
        # Crops of its own: what they compute once is nothing that a compiled graph returns.
        own = [replace(shot, crops=replace(shot.crops)) for shot in shots]
        return [_view(batch, image, picture, shot) for shot in own]


def _view(batch: Batch, image: Tensor, picture: Tensor | None, shot: Shot) -> Rendered:
    crops, changes = shot.crops, shot.changes
    taps = antialiased_taps(crops.rows), antialiased_taps(crops.columns)
    image = resample(image, *taps)
    if changes:
        image = changes.of_image(image)
    shown, hidden = _shown_and_masked(batch, shot)
    depth_m, point_labels, places = render_returns(batch, crops, shown, batch.canvas.has_subpixel)
    channels, bands = batch.canvas.companion_channels, batch.canvas.bands
    if picture is None:
        valid = depth_m[..., None] < math.inf
        value = (depth_m[..., None] / batch.canvas.depth_max_m).clamp(max=1.0)
    else:
        value, weight = resample(picture, *taps).split([bands, 1], dim=-1)
        valid = weight > 0.5
        value = value / weight  # the mean over what is valid alone
        value = changes.of_picture(value, valid) if changes else value
    companion = [torch.where(valid, value, 0.0)]
    if channels > bands:
        companion.append(valid[..., :1].to(value.dtype))
    if places is not None:
        companion.append(places.permute(0, 2, 3, 1))
    views = len(crops) // len(batch)
    inputs = Inputs(
        image=image.round_().clamp_(0, 255).to(torch.uint8),
        companion=torch.cat(companion, dim=-1),
        intrinsics=_intrinsics(batch.intrinsics.repeat(views, 1, 1), crops),
        present=batch.present.repeat(views, 1),
    )
    return Rendered(inputs, _labels(batch, crops, depth_m, point_labels, hidden))


def _shown_and_masked(batch: Batch, shot: Shot) -> tuple[Tensor | None, Tensor | None]:
    """Return which returns are shown and masked, bool (R, N); None where all are shown.

    Only those that the camera sees are either, where some are masked or their places matter.
    """
    rows, places_matter = len(shot.crops), batch.canvas.has_subpixel
    if shot.masks is None:
        return (seen_returns(batch, rows) if places_matter else None), None
    assert batch.beams is not None
    hidden = masked(shot.masks, batch.beams.repeat(rows // len(batch), 1))
    return seen_returns(batch, rows, ~hidden), hidden & seen_returns(batch, rows)


def _labels(
    batch: Batch,
    crops: Crops,
    depth_m: Tensor,
    point_labels: Tensor | None,
    hidden: Tensor | None,
) -> ViewLabels | None:
    """Return the ground truth, with that of masked returns."""
    labels = labels_in_views(batch, crops, depth_m, point_labels)
    if labels is None or hidden is None:
        return labels
    masked_m, _, places = render_returns(batch, crops, hidden)
    assert places is not None
    masked_m = torch.where(masked_m < math.inf, masked_m, math.nan)
    return replace(labels, masked=torch.cat([masked_m[:, None], places], dim=1))


def _intrinsics(intrinsics: Tensor, crops: Crops) -> Tensor:
    """Return the intrinsics (R, 3, 3) of views of the canvas."""
    view = intrinsics.clone()
    for i, axis in enumerate((crops.columns, crops.rows)):
        view[:, i, i] = intrinsics[:, i, i] * axis.scale
        view[:, i, 2:] = axis.position(intrinsics[:, i, 2:])
    return view
