"""Random changes of appearance: colour and blur of the image, gain and contrast of thermal.

Depth is never touched. Brightness, contrast, saturation and hue are affine in RGB and, without
clipping in between, commute; so they are one affine map per view and their order does not matter.
Hue turns the colour plane of YIQ and grayscale is saturation 0. Everything is clipped once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.resampling import by_column, gaussian_taps, resample

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_YIQ = torch.tensor(
    [LUMA.tolist(), [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)
_QUARTER_TURN = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
_TO_GRAY = LUMA.expand(3, 3)
_TO_CHROMA = torch.eye(3, dtype=torch.float64) - _TO_GRAY
_TO_TURNED_CHROMA = torch.linalg.inv(_YIQ) @ _QUARTER_TURN @ _YIQ
"""Colour (3,) to the grey of its luma, to what is left, and to that turned by 90 degrees of hue."""


@dataclass(frozen=True)
class Photometric:
    """Strengths of the random changes of appearance.

    Attributes:
        brightness, contrast, saturation: factors are uniform in [1 - x, 1 + x], at least 0.
        hue: turns, uniform in [-hue, hue].
        jitter_p: probability of these four together.
        gray_p: probability of losing all colour.
        blur_p: probability of a Gaussian blur.
        blur_taps: its width, odd, pixels of the view.
        blur_sigma: range of its standard deviation, pixels of the view.
        thermal_gain, thermal_contrast: as brightness and contrast, for thermal; always drawn.

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
    thermal_gain: float = 0.3
    thermal_contrast: float = 0.3

    def __post_init__(self) -> None:
        for name in ("jitter_p", "gray_p", "blur_p"):
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
    """Drawn changes, one for each of R views: float32 (R, 7), and the width of the blur.

    The columns are brightness, contrast and saturation factors, hue (turns), sigma of the blur
    (pixels, 0 = none), thermal gain and contrast factors. blur_taps is 1 if no view is blurred.
    """

    table: Tensor
    blur_taps: int

    def to(self, device: torch.device) -> Changes:
        """Copy the changes to a device."""
        return Changes(self.table.to(device, non_blocking=True), self.blur_taps)

    def of_image(self, images: Tensor) -> Tensor:
        """Change images, float32 (R, h, w, 3), 0 to 255; nothing is clipped."""
        if self.blur_taps > 1:
            rows, columns = (
                gaussian_taps(self.table[:, 4], size, self.blur_taps) for size in images.shape[1:3]
            )
            images = resample(by_column(images), rows, columns)
        matrix, offset = self._color_map(images.mean((1, 2)))
        return (images.flatten(1, 2) @ matrix.mT).add_(offset).view_as(images)

    def _color_map(self, mean_rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return matrix (R, 3, 3) and offset (R, 1, 1) on RGB, for images of mean colour (R, 3)."""
        brightness, contrast, saturation, hue = self.table[:, :4, None, None].unbind(1)
        gray, chroma, turned, luma = (
            constant.to(mean_rgb) for constant in (_TO_GRAY, _TO_CHROMA, _TO_TURNED_CHROMA, LUMA)
        )
        angle = 2 * math.pi * hue
        turn = angle.cos() * chroma + angle.sin() * turned
        mean_luma = (mean_rgb * luma).sum(1).view(-1, 1, 1)
        offset = brightness * (1 - contrast) * mean_luma
        return brightness * contrast * (gray + saturation * turn), offset

    def of_thermal(self, value: Tensor, valid: Tensor) -> Tensor:
        """Change thermal values, float32 (R, h, w), and clip them to [0, 1].

        Contrast is about the mean of what is valid, bool (R, h, w); the rest means nothing.
        """
        gain, contrast = self.table[:, 5:, None, None].unbind(1)
        seen = valid.sum((1, 2), keepdim=True).clamp(min=1)
        mean = torch.where(valid, value, 0.0).sum((1, 2), keepdim=True) / seen
        return (gain * (mean + contrast * (value - mean))).clamp(0.0, 1.0)


def draw_changes(config: Photometric, count: int, generator: torch.Generator) -> Changes:
    """Draw changes for ``count`` views, always with the same number of random numbers."""
    u = torch.rand(count, 10, generator=generator, dtype=torch.float64).unbind(1)

    def factor(strength: float, uniform: Tensor) -> Tensor:
        low = max(0.0, 1.0 - strength)
        return low + (1.0 + strength - low) * uniform

    jittered = u[0] < config.jitter_p
    saturation = torch.where(jittered, factor(config.saturation, u[3]), 1.0)
    low, high = config.blur_sigma
    columns = (
        torch.where(jittered, factor(config.brightness, u[1]), 1.0),
        torch.where(jittered, factor(config.contrast, u[2]), 1.0),
        torch.where(u[5] < config.gray_p, 0.0, saturation),
        torch.where(jittered, config.hue * (2 * u[4] - 1), 0.0),
        torch.where(u[6] < config.blur_p, low + (high - low) * u[7], 0.0),
        factor(config.thermal_gain, u[8]),
        factor(config.thermal_contrast, u[9]),
    )
    table = torch.stack(columns, dim=1).to(torch.float32)
    return Changes(table, config.blur_taps if config.blur_p > 0 else 1)
