"""Aligned multi-crop: views of a batch, in which image, companion, camera and labels agree.

The device's half of the input pipeline. Each view has one crop and flip (``crops.py``). Images
and pictures are resampled by it, labels take the nearest pixel, boxes are mirrored, the intrinsics
follow, and LiDAR returns are moved and then rendered: a depth map is never resampled. Everything
is batched; all random numbers come from a generator on the CPU, so that a seed gives the same
views on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lemumo_core.data.crops import Crops, draw_crops, whole_canvas
from lemumo_core.data.photometric import PHOTOMETRIC, Photometric, draw_changes
from lemumo_core.data.render_views import Rendered, Shot, render_views
from lemumo_core.data.return_masks import ReturnMasks, draw_return_masks
from lemumo_core.data.samples import Batch
from lemumo_core.data.view_labels import ViewLabels
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


def transpose_rows(rows: Tensor, inner: int) -> Tensor:
    """Reorder rows a * inner + b as rows b * outer + a: by view to by sample, or back."""
    return rows.unflatten(0, (-1, inner)).transpose(0, 1).flatten(0, 1)


def inputs_by_sample(inputs: Inputs, batch: int) -> Inputs:
    """Reorder the rows of views of ``batch`` samples, from by view to by sample.

    Rows of a rank are then neighbours in the whole batch, and so the masks of stochastic depth
    (``distributed.rows_of_rank``) do not depend on the number of ranks.
    """
    return Inputs(*(transpose_rows(x, batch) for x in inputs))


class MultiCrop:
    """Random views of a batch.

    In a view image and companion show the same crop. A method whose modalities have crops of their
    own takes the images of one set of views and the companions of another.

    Args:
        config: which views.
    """

    def __init__(self, config: MultiCropConfig):
        self.config, self._render = config, render

    def compile(self, **options: Any) -> None:
        """Compile what is computed on the device; ``options`` as of ``torch.compile``."""
        self._render = partial(render, rendered=torch.compile(render_views, **options))

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
                shots.append(Shot(crops, changes.of_rows(rows), masks))
        return self._render(batch, shots)


def clean_view(batch: Batch) -> View:
    """Return the whole canvas as it is: what ``preprocess`` gives for the same frames.

    The two are equal bit for bit.
    """
    (view,) = render(batch, [Shot(whole_canvas(_canvas_size(batch), len(batch)))])
    return view


def _canvas_size(batch: Batch) -> tuple[int, int]:
    return batch.canvas.height, batch.canvas.width


@torch.no_grad()
def render(
    batch: Batch, shots: Sequence[Shot], rendered: Callable[..., list[Rendered]] | None = None
) -> tuple[View, ...]:
    """Render one View for each shot.

    Args:
        batch: B samples.
        shots: how to cut them.
        rendered: what computes the views, compiled.
    """
    shots = [shot.to(batch.image.device) for shot in shots]
    found = (rendered or render_views)(batch, shots)
    return tuple(
        View(*one.inputs, shot.crops, one.labels) for one, shot in zip(found, shots, strict=True)
    )
