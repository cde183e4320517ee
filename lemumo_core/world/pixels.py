"""The pixels of a camera as tiles of rays, and back."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from lemumo_core.geometry.camera import Camera
from lemumo_core.world.raycast import Rays

TILE = 16


@functools.lru_cache(maxsize=32)
def camera_rays(camera: Camera, device: torch.device) -> Rays:
    """Return the rays through the centres of all pixels, in tiles of 16 x 16, row by row.

    An image whose size is not a multiple of 16 repeats its last rows and columns.

    Raises:
        ValueError: if a pixel lies outside the invertible field of view of the camera's model.
    """
    rows, columns = _tiles(camera)
    v = np.minimum(np.arange(rows * TILE), camera.height - 1)
    u = np.minimum(np.arange(columns * TILE), camera.width - 1)
    rays = camera.unproject(np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2))
    if np.isnan(rays).any():
        raise ValueError(f"some pixels of {camera} see nothing; weaken its distortion")
    uv = torch.from_numpy(rays[:, :2].astype(np.float32))
    uv = uv.view(rows, TILE, columns, TILE, 2).permute(0, 2, 4, 1, 3).reshape(-1, 2, TILE * TILE)
    return Rays.of(
        uv.contiguous().to(device), torch.zeros(len(uv), dtype=torch.int64, device=device)
    )


def to_images(values: Tensor, camera: Camera) -> Tensor:
    """Arrange values in the order of ``camera_rays`` as images.

    They are (..., V * T * 256) and become (..., V, H, W).
    """
    rows, columns = _tiles(camera)
    lead = values.shape[:-1]
    tiles = values.reshape(*lead, -1, rows, columns, TILE, TILE).transpose(-3, -2)
    return tiles.reshape(*lead, -1, rows * TILE, columns * TILE)[
        ..., : camera.height, : camera.width
    ]


def _tiles(camera: Camera) -> tuple[int, int]:
    return -(-camera.height // TILE), -(-camera.width // TILE)
