"""A thermal camera: temperatures of surfaces, in hundredths of a kelvin."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.world.ground import ROAD, SIDEWALK, TERRAIN
from lemumo_core.world.sensor import blurred
from lemumo_core.world.solids import FOLIAGE, GLASS
from lemumo_core.world.surface import Surface
from lemumo_core.world.weather import Weather

AIR_K = 285.0
CLEAR_SKY_K, CLOUDY_SKY_K = -45.0, -12.0
"""Temperature of the zenith, against the air."""
GROUND_SHARE = {ROAD: 1.0, SIDEWALK: 0.8, TERRAIN: 0.35}
"""How much of the day's warmth, or of the night's cold, the ground takes on."""
SOLID_SHARE, LEAF_SHARE, SUNLIT_SHARE = 0.55, 0.1, 0.5
MIRRORED = 0.25
"""Share of the sky that glass shows in place of its own warmth."""
NOISE_K = 0.08


def temperatures(surface: Surface, weather: Weather) -> Tensor:
    """Return the apparent temperature (M,) of what rays meet, kelvin against the air.

    By day, sun-lit asphalt and walls are as warm as people or warmer; at night everything that
    stands outside is colder than the air, and people, engines and tyres stand out.
    """
    zenith = CLEAR_SKY_K if weather.visibility_m > 300 or weather.night else CLOUDY_SKY_K
    seen = zenith * surface.ray[2].clamp(0, 1).sqrt()
    for label, share in GROUND_SHARE.items():
        seen.masked_fill_(surface.label == label, share * weather.ambient_k)
    at = surface.hit
    material = surface.of_solids("material")
    warmed = torch.where(material == FOLIAGE, LEAF_SHARE, SOLID_SHARE) * weather.ambient_k
    sun = torch.from_numpy(weather.sun).to(seen.device)[:, None]
    sunlit = (surface.normal[:, at] * sun).sum(0).clamp_min(0) * max(weather.ambient_k, 0.0)
    own = warmed + SUNLIT_SHARE * sunlit + surface.of_solids("warmth")
    seen[at] = torch.where(material == GLASS, own + MIRRORED * (zenith - own), own)
    # The air between shows its own temperature; fog hides less from heat than from light.
    clear = torch.exp(surface.depth_m * (-1 / (3 * weather.visibility_m)))
    return torch.where(torch.isinf(surface.depth_m), seen, seen * clear)


def record(kelvin: Tensor, grain: Tensor) -> Tensor:
    """Apply lens and sensor.

    Args:
        kelvin: (V, H, W), against the air.
        grain: standard normal numbers, (V, H, W).

    Returns:
        int32 (V, H, W), hundredths of a kelvin; they fit 16 bit without sign.
    """
    seen = blurred(kelvin[None])[0] + NOISE_K * grain
    return ((AIR_K + seen) * 100).round().clamp(0, 65535).int()
