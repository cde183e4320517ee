"""MinkUNet34C (Res16UNet34C of arXiv 1904.08755) on our sparse convolutions."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.sparse.convolution import Backend, SparseConv, convolve
from lemumo_core.model.sparse.kernel_map import KernelMap, KernelMaps
from lemumo_core.model.sparse.norm import RowNorm
from lemumo_core.model.sparse.spconv_backend import convolve_with_spconv
from lemumo_core.model.sparse.voxels import VoxelConfig, Voxels

STEM = 32
DOWN = ((32, 2), (64, 3), (128, 4), (256, 6))
UP = ((256, 2), (128, 2), (96, 2), (96, 2))
"""Width and number of residual blocks of each level."""
MOMENTUM = 0.05
"""Momentum of the norms outside of residual blocks, as the reference has it."""
BACKENDS: dict[str, Backend] = {"torch": convolve, "spconv": convolve_with_spconv}


@dataclass(frozen=True)
class SparseConfig:
    """A MinkUNet34C and its voxels.

    Attributes:
        width: share of the paper's widths; a quarter learns on two CPU cores.
        backend: ``torch``, or ``spconv`` where that is installed.
        voxels: see there.

    Raises:
        ValueError: for a width that leaves less than 4 channels, or an unknown backend.
    """

    width: float = 1.0
    backend: str = "torch"
    voxels: VoxelConfig = field(default_factory=VoxelConfig)

    def __post_init__(self) -> None:
        if self.width * STEM < 4:
            raise ValueError(f"width is {self.width}: less than 4 of {STEM} channels are left")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is {self.backend}: known are {', '.join(BACKENDS)}")

    @property
    def channels(self) -> int:
        """Width of a voxel's output."""
        return int(UP[-1][0] * self.width)


class ConvNorm(nn.Module):
    """Sparse convolution and its norm; no activation."""

    def __init__(self, conv: SparseConv, momentum: float = 0.1):
        super().__init__()
        self.conv, self.norm = conv, RowNorm(conv.weight.shape[2], momentum=momentum)

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """Map (sources, C) to (targets, C')."""
        normed: Tensor = self.norm(self.conv(x, kernel_map))
        return normed


class LinearNorm(nn.Module):
    """Linear map and norm of a residual block whose width changes."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out, bias=False)
        self.norm = RowNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, C')."""
        normed: Tensor = self.norm(self.linear(x))
        return normed


class ResidualBlock(nn.Module):
    """Two submanifold convolutions beside the identity, or a linear map."""

    def __init__(self, channels_in: int, channels_out: int, backend: Backend):
        super().__init__()
        self.first = ConvNorm(SparseConv(channels_in, channels_out, 27, backend))
        self.second = ConvNorm(SparseConv(channels_out, channels_out, 27, backend))
        self.skip: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.skip = LinearNorm(channels_in, channels_out)

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """Map (N, C) to (N, C')."""
        inner = self.second(functional.relu(self.first(x, kernel_map)), kernel_map)
        return functional.relu(inner + self.skip(x))


class MinkUNet(nn.Module):
    """Features of each voxel, from four strides below it.

    Args:
        config: of the network.
    """

    def __init__(self, config: SparseConfig):
        super().__init__()
        self.config = config
        backend = BACKENDS[config.backend]

        def conv(channels_in: int, channels_out: int, offsets: int) -> ConvNorm:
            return ConvNorm(SparseConv(channels_in, channels_out, offsets, backend), MOMENTUM)

        def blocks(channels_in: int, channels_out: int, count: int) -> nn.ModuleList:
            widths = [channels_in] + [channels_out] * count
            return nn.ModuleList(ResidualBlock(a, b, backend) for a, b in pairwise(widths))

        width = int(STEM * config.width)
        self.stem = conv(config.voxels.channels, width, 27)
        self.down, self.encoder = nn.ModuleList(), nn.ModuleList()
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        skipped = []
        for channels, count in DOWN:
            channels = int(channels * config.width)
            skipped.append(width)
            self.down.append(conv(width, width, 8))
            self.encoder.append(blocks(width, channels, count))
            width = channels
        for channels, count in UP:
            channels = int(channels * config.width)
            self.up.append(conv(width, channels, 8))
            self.decoder.append(blocks(channels + skipped.pop(), channels, count))
            width = channels

    def forward(self, voxels: Voxels) -> Tensor:
        """Return features (V, ``SparseConfig.channels``) of voxels."""
        maps: KernelMaps = voxels.maps
        x = functional.relu(self.stem(voxels.features, maps.submanifold[0]))
        skipped = []
        for level, (down, blocks) in enumerate(zip(self.down, self.encoder, strict=True)):
            skipped.append(x)
            x = functional.relu(down(x, maps.down[level]))
            for block in cast(nn.ModuleList, blocks):
                x = block(x, maps.submanifold[level + 1])
        for level, up, blocks in zip((3, 2, 1, 0), self.up, self.decoder, strict=True):
            x = functional.relu(up(x, maps.down[level].transposed()))
            x = torch.cat([x, skipped.pop()], 1)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, maps.submanifold[level])
        return x
