"""Random styles of images: other colour pipelines, lights and textures on the same geometry.

Rendered streets have few surfaces and one camera's colours. A style changes what a network must not
rely on and leaves what it may: outlines stay where they are. Each image gets a response curve of
each channel (sensors' colour pipelines), a smooth field of light (shadow, vignette, low sun), and
is mixed with a random 3 x 3 convolution of itself (arXiv 2007.13003), whose channels keep the mean
and the deviation of the image's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lemumo_core.data.pinned import to_device

KERNEL = 3
LIGHTS = 4
MAX_GAMMA = 1.6
MAX_LIGHT = 1.7
MAX_MIX = 0.7


class Styles(NamedTuple):
    """Drawn styles, one for each of R images.

    Attributes:
        gamma: float32 (R, 3), exponents of the channels.
        log_light: float32 (R, 1, 4, 4), logarithms of light over the image, from corner to corner.
        kernels: float32 (R, 3, 3, 3, 3), of the convolution: output and input channel, row, column.
        mix: float32 (R,), the convolution's share. 0 with all else neutral is the image itself.
    """

    gamma: Tensor
    log_light: Tensor
    kernels: Tensor
    mix: Tensor

    def to(self, device: torch.device) -> Styles:
        """Copy the styles to a device."""
        return Styles(*(to_device(x, device) for x in self))

    def of_image(self, images: Tensor) -> Tensor:
        """Change images, float32 (R, h, w, 3), 0 to 255, and clip them."""
        rows, height, width, _ = images.shape
        unit = images.clamp(0, 255).permute(0, 3, 1, 2) / 255
        unit = unit ** self.gamma[:, :, None, None]
        light = F.interpolate(
            self.log_light, (height, width), mode="bilinear", align_corners=True
        ).exp()
        unit = unit * light
        padded = F.pad(unit, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[None]
        mixed = F.conv2d(padded, self.kernels.flatten(0, 1), groups=rows).view_as(unit)
        mean, deviation = _statistics(mixed)
        own_mean, own_deviation = _statistics(unit)
        mixed = (mixed - mean) / deviation * own_deviation + own_mean
        unit = torch.lerp(unit, mixed, self.mix[:, None, None, None])
        return (unit.permute(0, 2, 3, 1) * 255).clamp(0, 255)


def draw_styles(probability: float, count: int, generator: torch.Generator) -> Styles:
    """Draw styles for ``count`` images, each with a probability; the others stay neutral."""

    def uniform(*shape: int) -> Tensor:
        drawn = 2 * torch.rand(count, *shape, generator=generator, dtype=torch.float64) - 1
        return drawn.to(torch.float32)

    styled = (uniform(1) + 1) / 2 < probability
    flat, square = styled, styled[:, :, None, None]
    identity = torch.zeros(3, 3, KERNEL, KERNEL)
    identity[range(3), range(3), KERNEL // 2, KERNEL // 2] = 1
    kernels = torch.where(square[..., None], uniform(3, 3, KERNEL, KERNEL), identity)
    return Styles(
        gamma=(math.log(MAX_GAMMA) * torch.where(flat, uniform(3), 0.0)).exp(),
        log_light=math.log(MAX_LIGHT) * torch.where(square, uniform(1, LIGHTS, LIGHTS), 0.0),
        kernels=kernels,
        mix=MAX_MIX * torch.where(flat, (uniform(1) + 1) / 2, 0.0)[:, 0],
    )


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, (R, 3, 1, 1) each."""
    deviation, mean = torch.std_mean(images, dim=(2, 3), keepdim=True)
    return mean, deviation.clamp(min=1e-4)
