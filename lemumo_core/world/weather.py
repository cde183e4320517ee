"""Weather of a drive and the light that it gives: clear, cloudy, foggy, dusk or night."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lemumo_core.world.palette import Color, Rng


@dataclass(frozen=True, eq=False)
class Weather:
    """Light of a drive, linear units.

    Attributes:
        sun: unit direction to the sun, world frame.
        sun_light: linear RGB.
        sky_light: linear RGB.
        sky: linear RGB of the zenith.
        haze: linear RGB of fog and horizon.
        visibility_m: distance at which contrast falls to 1/e.
        night: street lamps, windows and headlights are on.
        clouds: 0 (clear or overcast all over) to 1.
        exposure: of the camera.
        ambient_k: kelvin that sun-lit ground is above the air (below it at night).
    """

    sun: np.ndarray
    sun_light: np.ndarray
    sky_light: np.ndarray
    sky: np.ndarray
    haze: np.ndarray
    visibility_m: float
    night: bool
    clouds: float
    exposure: float
    ambient_k: float


class Sky(NamedTuple):
    """The ``Weather`` of a drive on a device: direction to the sun, and colours, (3, 1) each."""

    sun: Tensor
    sun_light: Tensor
    sky_light: Tensor
    zenith: Tensor
    haze: Tensor

    @staticmethod
    def of(weather: Weather, device: torch.device) -> Sky:
        """Copy a weather to a device."""
        values = (
            *(weather.sun, weather.sun_light, weather.sky_light),
            *(weather.sky, weather.haze),
        )
        return Sky(*(torch.from_numpy(value).to(device)[:, None] for value in values))


class _Kind(NamedTuple):
    """Parameters of one kind of weather."""

    share: float  # of all drives
    sun: float
    sky: float
    zenith: Color
    haze: Color
    ambient_k: float
    visibility_m: tuple[float, float]  # range
    sun_height: tuple[float, float] = (0.35, 1.2)  # range, radians
    sun_color: Color = (1.0, 0.95, 0.86)
    exposure: float = 1.0
    lamps: bool = False
    overcast: bool = False


_CLEAR = _Kind(0.375, 2.6, 0.75, (0.16, 0.32, 0.72), (0.62, 0.7, 0.8), 14.0, (420, 420))
_KINDS = (
    _CLEAR,
    _CLEAR._replace(  # cloudy
        share=0.25,
        sun=0.25,
        sky=1.25,
        zenith=(0.55, 0.58, 0.63),
        haze=(0.7, 0.72, 0.75),
        ambient_k=5.0,
        visibility_m=(260, 260),
        sun_height=(1.35, 1.35),
        overcast=True,
    ),
    _CLEAR._replace(  # fog
        share=0.125,
        sun=0.12,
        sky=1.2,
        zenith=(0.66, 0.68, 0.7),
        haze=(0.66, 0.68, 0.7),
        ambient_k=2.0,
        visibility_m=(28, 80),
        sun_height=(1.4, 1.4),
        overcast=True,
    ),
    _CLEAR._replace(  # dusk
        share=0.125,
        sun=1.1,
        sky=0.35,
        zenith=(0.1, 0.14, 0.32),
        haze=(0.75, 0.45, 0.28),
        ambient_k=6.0,
        visibility_m=(320, 320),
        sun_height=(0.12, 0.3),
        sun_color=(1.0, 0.6, 0.32),
        exposure=1.35,
        lamps=True,
    ),
    _CLEAR._replace(  # night: what shines is the moon
        share=0.125,
        sun=0.012,
        sky=0.02,
        zenith=(0.004, 0.006, 0.014),
        haze=(0.012, 0.013, 0.018),
        ambient_k=-6.0,
        visibility_m=(260, 260),
        sun_color=(0.6, 0.7, 1.0),
        exposure=3.2,
        lamps=True,
    ),
)
_SKY_COLOR = np.array((0.8, 0.92, 1.1), np.float32)


def draw(rng: Rng) -> Weather:
    """Draw a weather."""
    kind = _KINDS[rng.choice(len(_KINDS), p=[kind.share for kind in _KINDS])]
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(*kind.sun_height)
    flat = np.cos(height)
    return Weather(
        sun=np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(height)], np.float32),
        sun_light=np.array(kind.sun_color, np.float32) * kind.sun,
        sky_light=_SKY_COLOR * kind.sky,
        sky=np.array(kind.zenith, np.float32),
        haze=np.array(kind.haze, np.float32),
        visibility_m=float(rng.uniform(*kind.visibility_m)),
        night=kind.lamps,
        clouds=0.0 if kind.overcast else float(rng.random()),
        exposure=float(rng.uniform(0.75, 1.25) * kind.exposure),
        ambient_k=kind.ambient_k,
    )
