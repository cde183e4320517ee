"""Lens and sensor of a camera: linear light to 8 bit colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR = 0.2
"""Share of its light that a pixel loses to each neighbour in its row, then in its column."""
VIGNETTING = 0.16


def develop(radiance: Tensor, exposure: float, gain: float, grain: Tensor) -> Tensor:
    """Expose the sensor and convert its linear light to 8 bit colours.

    Args:
        radiance: linear RGB (3, V, H, W).
        exposure: scale of the light.
        gain: of the sensor; noise grows with it.
        grain: standard normal numbers (3, V, H, W).

    Returns:
        uint8 (V, H, W, 3).
    """
    height, width = radiance.shape[2:]
    light = blurred(radiance)
    y = torch.linspace(-1, 1, height, device=radiance.device)[:, None]
    x = torch.linspace(-1, 1, width, device=radiance.device)
    light *= exposure * (1 - VIGNETTING * (x * x + y * y))
    value = light.mul(1.15).div_(light.add_(0.5))  # highlights roll off
    deviation = (value * (0.0006 * gain)).add_(0.00004 * gain).sqrt_()
    value = value.addcmul_(deviation, grain).clamp_(0, 1).sqrt_()  # a gamma of 2 stands for sRGB's
    return value.mul_(255).add_(0.5).to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def blurred(planes: Tensor) -> Tensor:
    """Blur by the lens: every pixel of (C, V, H, W) loses ``BLUR`` to each of its neighbours."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, 1:-1].mul(1 - 2 * BLUR)
    rows.add_(padded[:, :, :-2], alpha=BLUR).add_(padded[:, :, 2:], alpha=BLUR)
    out = rows[..., 1:-1].mul(1 - 2 * BLUR)
    return out.add_(rows[..., :-2], alpha=BLUR).add_(rows[..., 2:], alpha=BLUR)
