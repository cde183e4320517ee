"""Sensors on the ego vehicle and their mounting: a different rig for every drive."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import T_BODY_OPTICAL, make_T
from lemumo_core.world.objects import SPLITS

RIGS, VARIED_RIGS = 24, 96
"""Rigs a split, of usual and of varied streets; so few that the rays of their cameras are kept."""
MOUNTS = {"front": 0.0, "front_left": 0.9, "front_right": -0.9, "rear": np.pi}
"""Camera names and the azimuths they look along, radians."""
MOUNT_SHARES = (0.64, 0.12, 0.12, 0.12)
DISTORTIONS = ("pinhole", "plumb_bob", "rational_polynomial", "equidistant")
DISTORTION_SHARES = (0.35, 0.3, 0.2, 0.15)

Triple = tuple[float, float, float]


class _Mounting(NamedTuple):
    """Ranges that rigs are drawn from: metres beside the mount, radians, shares of LiDARs."""

    camera_low: Triple = (-0.2, -0.25, 1.25)
    camera_high: Triple = (0.6, 0.25, 2.1)
    camera_turn: Triple = (0.012, 0.03, 0.03)  # deviations of roll, pitch and yaw
    lidar_low: Triple = (-0.3, -0.1, 1.75)
    lidar_high: Triple = (0.9, 0.1, 2.15)
    lidar_turn: Triple = (0.008, 0.008, 0.02)
    principal_row: tuple[float, float] = (0.4, 0.52)  # shares of the height
    beams: tuple[int, ...] = (16, 32, 64)
    beam_shares: tuple[float, ...] = (0.3, 0.5, 0.2)


_USUAL = _Mounting()
_ANY = _Mounting(
    camera_low=(-0.6, -0.6, 0.7),
    camera_high=(0.9, 0.6, 2.6),
    camera_turn=(0.02, 0.06, 0.06),
    lidar_low=(-0.6, -0.3, 1.0),
    lidar_high=(0.9, 0.3, 2.6),
    lidar_turn=(0.02, 0.03, 0.05),
    principal_row=(0.3, 0.6),
    beams=(16, 32, 64, 128),
    beam_shares=(0.2, 0.35, 0.3, 0.15),
)


@dataclass(frozen=True, eq=False)
class Rig:
    """Sensors and their poses ``T_ego_*`` (4, 4).

    The ego frame is x forward, y left, z up, on the ground; LiDARs have its axes, cameras are
    optical.
    """

    camera_name: str
    camera: Camera
    T_ego_camera: np.ndarray
    beams: int
    T_ego_lidar: np.ndarray
    thermal: Camera
    T_ego_thermal: np.ndarray


@functools.lru_cache(maxsize=256)
def rig(split: str, number: int, width: int, height: int, varied: bool = False) -> Rig:
    """Draw rig ``number`` (any: they repeat) of a split, for images of a size.

    A varied one may be mounted lower, higher and more askew, and has 16 to 128 beams.
    """
    mounting, count = (_ANY, VARIED_RIGS) if varied else (_USUAL, RIGS)
    rng = np.random.default_rng([31, SPLITS.index(split), number % count])
    name = str(rng.choice(list(MOUNTS), p=MOUNT_SHARES))
    camera = _camera(rng, width, height, mounting.principal_row)
    away = rng.uniform(mounting.camera_low, mounting.camera_high)
    position = np.array([1.2 * np.cos(MOUNTS[name]), 0.8 * np.sin(MOUNTS[name]), 0.0]) + away
    turned = rng.normal(0, mounting.camera_turn)
    R = _turned(turned[0], turned[1], MOUNTS[name] + turned[2])
    lidar = make_T(
        _turned(*rng.normal(0, mounting.lidar_turn)),
        rng.uniform(mounting.lidar_low, mounting.lidar_high),
    )
    w, h = max(16, width // 2), max(16, height // 2)
    f = camera.fx * w / width * rng.uniform(0.85, 1.1)
    thermal = Camera(w, h, f, f, (w - 1) / 2 + rng.normal(0, 2), (h - 1) / 2 + rng.normal(0, 2))
    near = make_T(
        _turned(*rng.normal(0, 0.008, 3)) @ R, position + R @ (0.0, rng.uniform(0.08, 0.25), 0.0)
    )
    beams = int(rng.choice(mounting.beams, p=mounting.beam_shares))
    return Rig(
        name,
        camera,
        make_T(R, position) @ T_BODY_OPTICAL,
        beams,
        lidar,
        thermal,
        near @ T_BODY_OPTICAL,
    )


def _camera(
    rng: np.random.Generator, width: int, height: int, principal_row: tuple[float, float]
) -> Camera:
    focal = float(np.exp(rng.uniform(np.log(0.52), np.log(1.15)))) * width
    fy = focal * rng.uniform(0.995, 1.005)
    cx = (width - 1) / 2 + rng.normal(0, 0.012) * width
    cy = (height - 1) * rng.uniform(*principal_row)
    model = str(rng.choice(DISTORTIONS, p=DISTORTION_SHARES))
    bend = min(1.0, (focal / width) ** 2)  # less where the view is wide
    k: np.ndarray = {
        "pinhole": np.zeros(0),
        "plumb_bob": np.array(
            [
                *(rng.uniform(-0.3, 0.02) * bend, rng.uniform(0, 0.06) * bend),
                *(*rng.normal(0, 5e-4, 2), 0.0),
            ]
        ),
        "rational_polynomial": np.array(
            [
                *(rng.uniform(0.1, 0.4), rng.uniform(0, 0.02), *rng.normal(0, 3e-4, 2)),
                *(0.0, rng.uniform(0.2, 0.6), rng.uniform(0, 0.05), 0.0),
            ]
        ),
        "equidistant": rng.normal(0, (0.02, 0.005, 0.002, 0.0005)),
    }[model]
    corners = np.array([(x, y) for x in (0, width - 1) for y in (0, height - 1)])
    while True:
        camera = Camera(width, height, focal, fy, cx, cy, model, tuple(k.tolist()))
        if np.isfinite(camera.unproject(corners)).all():
            return camera
        k = 0.8 * k  # the corners must stay where the polynomials still grow


def _turned(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return the rotation (3, 3) about x, then y, then z."""
    a, b, c = (
        np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]]),
        np.array(
            [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
        ),
        np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]),
    )
    return c @ b @ a
