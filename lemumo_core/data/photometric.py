"""Random changes of appearance: of the image, and of companions that are pictures.

Depth is never touched. Brightness, contrast, saturation and hue are affine in RGB and, without
clipping in between, commute; so they are one affine map per view and their order does not matter.
Hue turns the colour plane of YIQ and grayscale is saturation 0. Everything is clipped once.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.pinned import to_device
from lemumo_core.data.resampling import by_column, gaussian_taps, resample
from lemumo_core.data.style import Styles, draw_styles

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_YIQ = torch.tensor(
    [LUMA.tolist(), [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)
_QUARTER_TURN = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
_TO_GRAY = LUMA.expand(3, 3)
_TO_CHROMA = torch.eye(3, dtype=torch.float64) - _TO_GRAY
_TO_TURNED_CHROMA = torch.linalg.inv(_YIQ) @ _QUARTER_TURN @ _YIQ
"""Colour (3,) to the grey of its luma, to what is left, and to that turned by 90 degrees of hue."""


RARE = ("solarize_p", "raster_gray_p", "raster_blur_p")
"""Probabilities for which no random number is drawn where all are 0."""


@dataclass(frozen=True)
class Photometric:
    """Strengths of the random changes of appearance.

    Attributes:
        brightness: x of a factor that is uniform in [1 - x, 1 + x], at least 0.
        contrast: likewise.
        saturation: likewise.
        hue: turns, uniform in [-hue, hue].
        jitter_p: probability of these four together.
        gray_p: probability of losing all colour.
        blur_p: probability of a Gaussian blur.
        blur_taps: its width, odd, pixels of the view.
        blur_sigma: range of its standard deviation, pixels of the view.
        solarize_p: probability that what is brighter than the middle is inverted.
        style_p: probability of a random style (``style``).
        thermal_gain: as brightness, for thermal images and rasters; always drawn.
        thermal_contrast: as contrast, for thermal images and rasters; always drawn.
        raster_gray_p: as ``gray_p``, for the bands of such a companion.
        raster_blur_p: as ``blur_p``, for the bands of such a companion.

    Raises:
        ValueError: for anything outside its range.
    """

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 1.0
    blur_taps: int = 7
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    style_p: float = 0.0
    thermal_gain: float = 0.3
    thermal_contrast: float = 0.3
    raster_gray_p: float = 0.0
    raster_blur_p: float = 0.0

    def __post_init__(self) -> None:
        for name in (*("jitter_p", "gray_p", "blur_p", "style_p"), *RARE):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, a probability lies in [0, 1]")
        for name in ("brightness", "contrast", "saturation", "thermal_gain", "thermal_contrast"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is {self.hue} turns, must lie in [0, 0.5]")
        if self.blur_taps % 2 == 0 or not 1 <= self.blur_taps <= 31:
            raise ValueError(f"blur_taps is {self.blur_taps}, must be odd and 1 to 31")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur_sigma is {self.blur_sigma}, must be 0 < low <= high")


PHOTOMETRIC = {
    "waymo": Photometric(),
    "nuscenes": Photometric(blur_p=0.0),
    "flir": Photometric(jitter_p=1.0),
    "none": Photometric(
        jitter_p=0.0, gray_p=0.0, blur_p=0.0, thermal_gain=0.0, thermal_contrast=0.0
    ),
}
"""The strengths of arXiv 2603.24327 by data set (those of thermal are ours), and none."""


class Changes(NamedTuple):
    """Drawn changes, one for each of R views: float32 (R, 10), and the width of the blur.

    The columns are brightness, contrast and saturation factors, hue (turns), sigma of the blur
    (pixels, 0 = none), thermal gain and contrast factors, whether the image is solarised and the
    bands of a raster become their mean (0 or 1), sigma of their blur. blur_taps is 1 if no image is
    blurred, raster_blur_taps if no raster is, and solarizes false if no image can be solarised.
    styles is None where no image can have one.
    """

    table: Tensor
    blur_taps: int
    raster_blur_taps: int = 1
    solarizes: bool = False
    styles: Styles | None = None

    def to(self, device: torch.device) -> Changes:
        """Copy the changes to a device."""
        return self._replace(
            table=to_device(self.table, device),
            styles=self.styles and self.styles.to(device),
        )

    def of_rows(self, rows: Tensor) -> Changes:
        """Return the changes of these views, int64 indices."""
        styles = self.styles and Styles(*(x[rows] for x in self.styles))
        return self._replace(table=self.table[rows], styles=styles)

    def of_image(self, images: Tensor) -> Tensor:
        """Change images, float32 (R, h, w, 3), 0 to 255; what is solarised or styled is clipped."""
        if self.styles:
            images = self.styles.of_image(images)
        images = _blurred(images, self.table[:, 4], self.blur_taps)
        matrix, offset = self._color_map(images.mean((1, 2)))
        changed = (images.flatten(1, 2) @ matrix.mT).add_(offset).view_as(images)
        if not self.solarizes:
            return changed
        inverted = (255 - changed.clamp(0, 255)).minimum(changed.clamp(min=0))
        return torch.where(self.table[:, 7, None, None, None] > 0, inverted, changed)

    def _color_map(self, mean_rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return matrix (R, 3, 3) and offset (R, 1, 1) on RGB, for images of mean colour (R, 3)."""
        brightness, contrast, saturation, hue = self.table[:, :4, None, None].unbind(1)
        gray, chroma, turned, luma = _color_constants(mean_rgb.device, mean_rgb.dtype)
        angle = 2 * math.pi * hue
        turn = angle.cos() * chroma + angle.sin() * turned
        mean_luma = (mean_rgb * luma).sum(1).view(-1, 1, 1)
        offset = brightness * (1 - contrast) * mean_luma
        return brightness * contrast * (gray + saturation * turn), offset

    def of_picture(self, value: Tensor, valid: Tensor) -> Tensor:
        """Change values of a thermal image or raster, float32 (R, h, w, C), and clip to [0, 1].

        Contrast is about each band's mean of what is valid, bool (R, h, w, 1); the rest means
        nothing.
        """
        gain, contrast, _, gray, sigma = self.table[:, 5:, None, None, None].unbind(1)
        seen = valid.sum((1, 2), keepdim=True).clamp(min=1)
        value = torch.where(valid, value, 0.0)
        mean = value.sum((1, 2), keepdim=True) / seen
        value = (gain * (mean + contrast * (value - mean))).clamp(0.0, 1.0)
        value = torch.where(gray > 0, value.mean(-1, keepdim=True), value)
        if self.raster_blur_taps == 1:
            return value
        known = valid.to(value.dtype)
        weighted = torch.cat([value * known, known], dim=-1)
        blurred = _blurred(weighted, sigma.flatten(), self.raster_blur_taps)
        return blurred[..., :-1] / blurred[..., -1:].clamp(min=1e-6)


@functools.cache
def _color_constants(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    return [x.to(device, dtype) for x in (_TO_GRAY, _TO_CHROMA, _TO_TURNED_CHROMA, LUMA)]


def draw_changes(config: Photometric, count: int, generator: torch.Generator) -> Changes:
    """Draw changes for ``count`` views, for one configuration with as many random numbers."""
    u = torch.rand(count, 10, generator=generator, dtype=torch.float64).unbind(1)

    def factor(strength: float, uniform: Tensor) -> Tensor:
        low = max(0.0, 1.0 - strength)
        return low + (1.0 + strength - low) * uniform

    jittered = u[0] < config.jitter_p
    saturation = torch.where(jittered, factor(config.saturation, u[3]), 1.0)
    low, high = config.blur_sigma
    rare = any(getattr(config, name) > 0 for name in RARE)
    v = torch.ones(4, count, dtype=torch.float64)
    if rare:
        v = torch.rand(count, 4, generator=generator, dtype=torch.float64).T
    columns = (
        torch.where(jittered, factor(config.brightness, u[1]), 1.0),
        torch.where(jittered, factor(config.contrast, u[2]), 1.0),
        torch.where(u[5] < config.gray_p, 0.0, saturation),
        torch.where(jittered, config.hue * (2 * u[4] - 1), 0.0),
        torch.where(u[6] < config.blur_p, low + (high - low) * u[7], 0.0),
        factor(config.thermal_gain, u[8]),
        factor(config.thermal_contrast, u[9]),
        v[0] < config.solarize_p,
        v[1] < config.raster_gray_p,
        torch.where(v[2] < config.raster_blur_p, low + (high - low) * v[3], 0.0),
    )
    table = torch.stack(columns, dim=1).to(torch.float32)
    blur, raster_blur = (
        config.blur_taps if p > 0 else 1 for p in (config.blur_p, config.raster_blur_p)
    )
    styles = draw_styles(config.style_p, count, generator) if config.style_p else None
    return Changes(table, blur, raster_blur, config.solarize_p > 0, styles)


def _blurred(images: Tensor, sigma: Tensor, width: int) -> Tensor:
    """Blur images (R, h, w, C) by a Gaussian each, sigma (R,) in pixels, of so many taps."""
    if width == 1:
        return images
    taps = (gaussian_taps(sigma, size, width) for size in images.shape[1:3])
    return resample(by_column(images), *taps)
