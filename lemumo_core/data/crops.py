"""Random crops and flips: one geometric transform per view, for everything that a view shows.

A crop is a rectangle of whole canvas pixels, scaled to the view's size and perhaps mirrored. Both
axes are alike, so all arithmetic is that of one ``Axis``. Pixel (0, 0) is the centre of the top
left pixel, as in ``geometry.camera``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from lemumo_core.data.pinned import to_device

T = TypeVar("T")


class computed_once(Generic[T]):
    """A property that is computed once, as ``functools.cached_property``.

    That holds a lock before Python 3.12, which ``torch.compile`` does not take.
    """

    def __init__(self, function: Callable[[Any], T]):
        self.function, self.name = function, function.__name__

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        """Return the value, which from now on is an attribute."""
        value = self.function(instance)
        object.__setattr__(instance, self.name, value)
        return value


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of R crops: canvas pixels start to start + length - 1, shown as ``size`` pixels.

    What several callers need of it is computed once.

    Attributes:
        start, length: int64 (R,).
        flipped: bool (R,), last pixel first.
        size: of the view.
        longest: at least ``length.max()``, known without waiting for the device.
    """

    start: Tensor
    length: Tensor
    flipped: Tensor
    size: int
    longest: int

    @computed_once
    def scale(self) -> Tensor:
        """View pixels per canvas pixel, float32 (R,)."""
        return self.size / self.length.to(torch.float32)

    @computed_once
    def order(self) -> Tensor:
        """Which pixel of the view before its flip each pixel shows, int64 (R, size)."""
        pixel = torch.arange(self.size, device=self.start.device)
        return torch.where(self.flipped[:, None], self.size - 1 - pixel, pixel)

    @computed_once
    def _way(self) -> Tensor:
        """-1 where flipped, else 1, float32 (R, 1)."""
        return 1.0 - 2.0 * self.flipped[:, None]

    @computed_once
    def _slope_and_edge(self) -> tuple[Tensor, Tensor]:
        """View pixels per canvas pixel and the canvas's border of the view's first pixel."""
        return self._way * self.scale[:, None], (self.start + self.flipped * self.length)[:, None]

    @computed_once
    def _offsets(self) -> tuple[Tensor, Tensor]:
        """Positions in the view of the crop's first pixel, and of the place it flips from."""
        return (self.scale[:, None] - 1) / 2, self.flipped[:, None] * (self.size - 1.0)

    def nearest(self) -> Tensor:
        """Return the canvas pixel that holds the centre of each view pixel, int64 (R, size)."""
        # The centre (order + 1/2) length / size in whole numbers: no rounding.
        inside = (2 * self.order + 1) * self.length[:, None] // (2 * self.size)
        return self.start[:, None] + inside

    def pixel(self, position: Tensor) -> Tensor:
        """Return the view pixel whose centre is nearest to canvas positions (R, N).

        They are whole float32 numbers, below 0 or at least ``size`` outside the view.
        """
        # (u + 1/2) first, as depth_projection rounds; one multiplication and addition each.
        slope, edge = self._slope_and_edge
        return ((position + 0.5 - edge) * slope).floor_()

    def position(self, canvas: Tensor) -> Tensor:
        """Map positions (R, N) on the canvas to the view's.

        They move as ``Camera.cropped``, ``scaled`` and ``flipped`` move the principal point.
        """
        first, turned = self._offsets
        shown = (canvas - self.start[:, None]) * self.scale[:, None] + first
        # The product is exact, so that this is turned - shown, or shown, as it is rounded.
        return torch.addcmul(turned, self._way, shown)


@dataclass(frozen=True, eq=False)
class Crops:
    """R crops of the samples of a batch of B: crop r is one of sample r % B.

    Attributes:
        table: int64 (R, 5) left, top, width, height (canvas pixels), and flips: 0, 1 horizontally,
            2 vertically, 3 both.
        canvas: (H, W).
        size: (h, w) of the views.
    """

    table: Tensor
    canvas: tuple[int, int]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.table)

    def to(self, device: torch.device) -> Crops:
        """Copy the crops to a device."""
        return Crops(to_device(self.table, device), self.canvas, self.size)

    @computed_once
    def flipped(self) -> Tensor:
        """Which crops are mirrored, left for right, bool (R,)."""
        return self.table[:, 4] % 2 > 0

    @computed_once
    def upended(self) -> Tensor:
        """Which crops are upside down, bool (R,)."""
        return self.table[:, 4] > 1

    @computed_once
    def rows(self) -> Axis:
        """Vertical axis."""
        _, top, _, height, _ = self.table.unbind(1)
        return Axis(top, height, self.upended, self.size[0], self.canvas[0])

    @computed_once
    def columns(self) -> Axis:
        """Horizontal axis."""
        left, _, width, _, _ = self.table.unbind(1)
        return Axis(left, width, self.flipped, self.size[1], self.canvas[1])


def whole_canvas(canvas: tuple[int, int], count: int) -> Crops:
    """Return crops that show all of the canvas as it is: the identity."""
    height, width = canvas
    return Crops(torch.tensor([[0, 0, width, height, 0]]).expand(count, 5), canvas, canvas)


def draw_crops(
    count: int,
    canvas: tuple[int, int],
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    flip: tuple[float, float],
    generator: torch.Generator,
) -> Crops:
    """Draw random crops, for one configuration always with the same number of random numbers.

    The share of the canvas is uniform in ``area``; the aspect (relative to the canvas's own) is
    log-uniform in the part of ``aspect`` with which that share fits; the place is uniform.
    RandomResizedCrop rejects what does not fit instead, which favours small crops. ``flip`` has the
    probabilities of a horizontal and of a vertical flip.
    """
    height, width = canvas
    u = torch.rand(count, 5, generator=generator, dtype=torch.float64).unbind(1)
    share = area[0] + (area[1] - area[0]) * u[0]
    narrowest = share.clamp(min=aspect[0]).log()
    widest = (1 / share).clamp(max=aspect[1]).log()
    ratio = (narrowest + (widest - narrowest) * u[1]).exp()
    crop_width = (width * (share * ratio).sqrt()).round().clamp(1, width)
    crop_height = (height * (share / ratio).sqrt()).round().clamp(1, height)
    left = (u[2] * (width - crop_width + 1)).floor()
    top = (u[3] * (height - crop_height + 1)).floor()
    flips = (u[4] < flip[0]).to(torch.float64)
    if flip[1] > 0:
        flips += 2 * (torch.rand(count, generator=generator) < flip[1])
    table = torch.stack([left, top, crop_width, crop_height, flips], dim=1)
    return Crops(table.to(torch.int64), canvas, size)
