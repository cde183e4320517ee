"""Voxels of LiDAR sweeps: which points share one, and what it carries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lemumo_core.model.sparse.kernel_map import AXIS, LEVELS, KernelMaps, pack

MIDDLE = AXIS // 2 - 16
"""Coordinate of the sensor on every axis, a multiple of the largest stride."""
HEIGHT_M = 5.0
"""Height that the feature ``height`` takes for 1."""


@dataclass(frozen=True)
class VoxelConfig:
    """How points become voxels.

    Attributes:
        size_m: edge of a voxel, metres.
        cylindrical: cut the sweep by distance (``size_m``), azimuth (``azimuth_deg``) and height
            (``size_m``) in place of x, y and z, as Cylinder3D does (arXiv 2011.10033).
        azimuth_deg: width of a cylindrical voxel, degrees.
        features: of a voxel: ``intensity`` is that of its points alone; ``height`` adds 1 and the
            height, so that sensors without intensity show the network something, too.

    Raises:
        ValueError: for a size that is not positive.
    """

    size_m: float = 0.1
    cylindrical: bool = False
    azimuth_deg: float = 1.0
    features: str = "intensity"

    def __post_init__(self) -> None:
        if self.size_m <= 0 or self.azimuth_deg <= 0:
            raise ValueError(f"voxels must have a positive size: {self}")
        if self.features not in ("intensity", "height"):
            raise ValueError(f"features is {self.features}: known are intensity and height")

    @property
    def channels(self) -> int:
        """Width of a voxel's features."""
        return 1 if self.features == "intensity" else 3


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels of B sweeps, sorted by their keys.

    Attributes:
        features: float32 (V, C), means over the points of each voxel.
        maps: kernel maps of all strides.
        row_of_point: int64 (B, M), the voxel that holds each point; -1 for padding, for what is no
            return and for points beyond the reach of keys (3 km at 0.1 m).
        sample: int64 (V,), the sweep that each voxel belongs to.
    """

    features: Tensor
    maps: KernelMaps
    row_of_point: Tensor
    sample: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device | str) -> Voxels:
        """Copy to a device."""
        return Voxels(
            self.features.to(device),
            self.maps.to(device),
            self.row_of_point.to(device),
            self.sample.to(device),
        )


@torch.no_grad()
def voxelize(points: Tensor, config: VoxelConfig, levels: int = LEVELS) -> Voxels:
    """Sort the points of sweeps into voxels. It waits for the device: counts are shapes.

    Args:
        points: float32 (B, M, 4) x, y, z, metres, and intensity 0 to 255; rows that are not finite
            or exactly at the origin are no returns.
        config: of the voxels.
        levels: strides of the kernel maps.
    """
    xyz, intensity = points[..., :3], points[..., 3:4] / 255
    there = xyz.isfinite().all(-1) & (xyz != 0).any(-1)
    cells = _cells(torch.where(there[..., None], xyz, 0.0), config)
    there &= ((cells >= 0) & (cells < AXIS - 2)).all(-1)
    sample, number = there.nonzero(as_tuple=True)
    coordinates = torch.cat([sample[:, None], cells[sample, number].to(torch.int64)], 1)
    keys, row = torch.unique(pack(coordinates), return_inverse=True)
    row_of_point = torch.full(there.shape, -1, dtype=torch.int64, device=points.device)
    row_of_point[sample, number] = row

    carried = intensity.nan_to_num(0.0, 0.0, 0.0)
    if config.features == "height":
        carried = torch.cat([torch.ones_like(carried), xyz[..., 2:] / HEIGHT_M, carried], -1)
    features = points.new_zeros(len(keys), carried.shape[-1])
    features.index_add_(0, row, carried[sample, number])
    features /= torch.bincount(row, minlength=len(keys))[:, None]
    return Voxels(features, KernelMaps.build(keys, levels), row_of_point, keys >> 48)


def _cells(xyz: Tensor, config: VoxelConfig) -> Tensor:
    """Return the whole-numbered coordinates of points, as floats (..., 3)."""
    if not config.cylindrical:
        return (xyz / config.size_m).floor() + MIDDLE
    x, y, z = xyz.unbind(-1)
    azimuth = torch.atan2(y, x) * (180 / math.pi) / config.azimuth_deg
    cylinder = torch.stack([x.hypot(y) / config.size_m, azimuth, z / config.size_m], -1)
    return cylinder.floor() + MIDDLE
