"""Aligned multi-crop: views of a batch, in which image, companion, camera and labels agree.

The device's half of the input pipeline. Each view has one crop and flip (``crops.py``). Images
and pictures are resampled by it, labels take the nearest pixel, boxes are mirrored, the intrinsics
follow, and LiDAR returns are moved and then rendered: a depth map is never resampled. Everything
is batched; all random numbers come from a generator on the CPU, so that a seed gives the same
views on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lemumo_core.data.crops import Crops, draw_crops, whole_canvas
from lemumo_core.data.photometric import PHOTOMETRIC, Changes, Photometric, draw_changes
from lemumo_core.data.render_returns import render_returns, seen_returns
from lemumo_core.data.resampling import antialiased_taps, by_column, resample
from lemumo_core.data.return_masks import ReturnMasks, draw_return_masks, masked
from lemumo_core.data.samples import Batch
from lemumo_core.data.view_labels import ViewLabels, labels_in_views
from lemumo_core.depth_projection import OCCLUSION_RATIO
from lemumo_core.preprocess import Inputs


@dataclass(frozen=True)
class MultiCropConfig:
    """Which views are cut from a sample. The defaults are those of arXiv 2603.24327.

    Attributes:
        global_views, local_views: how many of each; local_views may be 0.
        global_size, local_size: (height, width) of the views, multiples of 16.
        global_scale, local_scale: range of a crop's share of the canvas.
        aspect: range of a crop's aspect relative to the canvas's own.
        flip: probability of a horizontal flip.
        vertical_flip: likewise of a vertical one, for images from above.
        photometric: how strongly appearance changes.
        mask_returns: probability that a part of a view's LiDAR returns is masked
            (``return_masks``), and becomes truth. Needs ``Batch.beams``.

    Fine-tuning with labels takes one global view, no local ones and e.g. a scale of (0.8, 1).

    Raises:
        ValueError: for anything outside its range.
    """

    global_views: int = 2
    local_views: int = 4
    global_size: tuple[int, int] = (224, 224)
    local_size: tuple[int, int] = (96, 96)
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    photometric: Photometric = PHOTOMETRIC["waymo"]
    mask_returns: float = 0.0

    def __post_init__(self) -> None:
        if self.global_views < 1 or self.local_views < 0:
            raise ValueError(
                f"{self.global_views} global and {self.local_views} local views: at least one "
                "global view is needed"
            )
        for name in ("global_size", "local_size"):
            size = getattr(self, name)
            if min(size) <= 0 or any(side % 16 for side in size):
                raise ValueError(f"{name} is {size}: height and width must be multiples of 16")
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} is {(low, high)}, must be 0 < low <= high <= 1")
        if not 0 < self.aspect[0] <= 1 <= self.aspect[1]:
            raise ValueError(f"aspect is {self.aspect}, must be 0 < low <= 1 <= high")
        for name in ("flip", "vertical_flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, a probability lies in [0, 1]")

    @property
    def global_views_overlap(self) -> bool:
        """Whether any two global crops of a sample share a part of the canvas."""
        narrowest = min(self.aspect[0], 1 / self.aspect[1])
        return math.sqrt(self.global_scale[0] * narrowest) > 0.5


@dataclass(frozen=True, eq=False)
class View:
    """R = views x B network inputs of one size (``preprocess.Inputs``, as tensors).

    Row v * B + b is view v of sample b.

    Attributes:
        image: uint8 (R, h, w, 3) RGB, as on the vehicle; a quarter of float's memory.
        companion: float32 (R, h, w, C), as of ``Inputs``.
        intrinsics: float32 (R, 3, 3) of the view.
        present: float32 (R, 2), which of image and companion exists.
        crops: which part of the canvas each row shows.
        labels: where the batch has labels.
    """

    image: Tensor
    companion: Tensor
    intrinsics: Tensor
    present: Tensor
    crops: Crops
    labels: ViewLabels | None

    @property
    def inputs(self) -> Inputs:
        """Inputs of the network."""
        return Inputs(self.image, self.companion, self.intrinsics, self.present)


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
            ReturnMasks(*(x.to(device) for x in self.masks)) if self.masks else None,
        )


def transpose_rows(rows: Tensor, inner: int) -> Tensor:
    """Reorder rows a * inner + b as rows b * outer + a: by view to by sample, or back."""
    return rows.unflatten(0, (-1, inner)).transpose(0, 1).flatten(0, 1)


class MultiCrop:
    """Random views of a batch.

    In a view image and companion show the same crop. A method whose modalities have crops of their
    own takes the images of one set of views and the companions of another.

    Args:
        config: which views.
    """

    def __init__(self, config: MultiCropConfig):
        self.config = config

    def __call__(
        self, batch: Batch, generator: torch.Generator, rank: int = 0, world: int = 1
    ) -> tuple[View, ...]:
        """Cut views on the device that holds the batch.

        Args:
            batch: B samples.
            generator: on the CPU.
            rank: the batch is this share of a batch of world x B samples, whose draws are made:
                with generators of one seed, ranks cut the views that one rank would.
            world: number of ranks.

        Returns:
            The global views and, unless there are none, the local views.

        Raises:
            ValueError: the generator is not on the CPU.
        """
        if generator.device.type != "cpu":
            raise ValueError(
                f"the generator is on {generator.device}: use one on the CPU, so that a seed "
                "gives the same views on every device"
            )
        config = self.config
        shots = []
        for views, size, scale in (
            (config.global_views, config.global_size, config.global_scale),
            (config.local_views, config.local_size, config.local_scale),
        ):
            count = views * world * len(batch)
            rows = torch.arange(count).view(views, world, len(batch))[:, rank].flatten()
            flips = config.flip, config.vertical_flip
            crops = draw_crops(
                count, _canvas_size(batch), size, scale, config.aspect, flips, generator
            )
            changes = draw_changes(config.photometric, count, generator)
            masks = None
            if config.mask_returns:
                masks = draw_return_masks(count, config.mask_returns, generator)
                masks = ReturnMasks(*(column[rows] for column in masks))
            if views:
                crops = replace(crops, table=crops.table[rows])
                shots.append(Shot(crops, changes._replace(table=changes.table[rows]), masks))
        return render(batch, shots)


def clean_view(batch: Batch) -> View:
    """Return the whole canvas as it is: what ``preprocess`` gives for the same frames.

    The two are equal bit for bit.
    """
    (view,) = render(batch, [Shot(whole_canvas(_canvas_size(batch), len(batch)))])
    return view


def _canvas_size(batch: Batch) -> tuple[int, int]:
    return batch.canvas.height, batch.canvas.width


@torch.no_grad()
def render(batch: Batch, shots: Sequence[Shot]) -> tuple[View, ...]:
    """Render one View for each shot."""
    device = batch.image.device
    with torch.autocast(device.type, enabled=False):  # no colours in bfloat16
        image = by_column(batch.image)
        picture = None if batch.picture is None else by_column(batch.picture)
        return tuple(_view(batch, image, picture, shot.to(device)) for shot in shots)


def _view(batch: Batch, image: Tensor, picture: Tensor | None, shot: Shot) -> View:
    crops, changes = shot.crops, shot.changes
    taps = antialiased_taps(crops.rows), antialiased_taps(crops.columns)
    image = resample(image, *taps)
    if changes:
        image = changes.of_image(image)
    shown, hidden = _shown_and_masked(batch, shot)
    depth_m, point_labels, places = render_returns(batch, crops, shown)
    channels, bands = batch.canvas.companion_channels, batch.canvas.bands
    if picture is None:
        valid = depth_m[..., None] < math.inf
        value = (depth_m[..., None] / batch.canvas.depth_max_m).clamp(max=1.0)
    else:
        value, weight = resample(picture, *taps).split([bands, 1], dim=-1)
        valid = weight > 0.5
        value = value / weight  # the mean over what is valid alone
        value = changes.of_picture(value, valid) if changes else value
    companion = torch.zeros(*value.shape[:-1], channels, device=value.device)
    companion[..., :bands] = torch.where(valid, value, 0.0)
    if channels > bands:
        companion[..., bands] = valid[..., 0]
    if batch.canvas.has_subpixel:
        companion[..., 2:] = places.permute(0, 2, 3, 1)
    views = len(crops) // len(batch)
    return View(
        image=image.round_().clamp_(0, 255).to(torch.uint8),
        companion=companion,
        intrinsics=_intrinsics(batch.intrinsics.repeat(views, 1, 1), crops),
        present=batch.present.repeat(views, 1),
        crops=crops,
        labels=_labels(batch, crops, depth_m, point_labels, hidden),
    )


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
    # Dense depth says what the camera sees; where there is none, so do the returns that are shown.
    seen_m = labels.depth_m.nan_to_num(math.inf)
    masked_m = torch.where(masked_m <= OCCLUSION_RATIO * seen_m, masked_m, math.inf)
    masked_m = torch.where(masked_m < math.inf, masked_m, math.nan)
    return replace(labels, masked=torch.cat([masked_m[:, None], places], dim=1))


def _intrinsics(intrinsics: Tensor, crops: Crops) -> Tensor:
    """Return the intrinsics (R, 3, 3) of views of the canvas."""
    view = intrinsics.clone()
    for i, axis in enumerate((crops.columns, crops.rows)):
        view[:, i, i] = intrinsics[:, i, i] * axis.scale
        view[:, i, 2:] = axis.position(intrinsics[:, i, 2:])
    return view
