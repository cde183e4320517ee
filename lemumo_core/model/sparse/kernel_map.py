"""Kernel maps: which voxel contributes to which, through which weight of a kernel.

They depend on coordinates alone: built once for a scan and a stride, and shared by all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

AXIS = 1 << 16
"""Values that a key has room for on each axis."""
CENTER = 13
"""Number of the offset (0, 0, 0) of a 3 x 3 x 3 kernel: 9 (x + 1) + 3 (y + 1) + z + 1."""
LEVELS = 5
"""Strides 1, 2, 4, 8 and 16."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Pairs sorted by a row: those of row i are ``pairs[starts[i] : starts[i + 1]]``, int32."""

    pairs: Tensor
    starts: Tensor

    @classmethod
    def sort(cls, rows: Tensor, count: int) -> Rows:
        """Sort pairs by the row that each has, int (P,), of ``count`` rows."""
        starts = functional.pad(torch.bincount(rows, minlength=count).cumsum(0), (1, 0))
        return cls(torch.argsort(rows, stable=True).int(), starts.int())

    def to(self, device: torch.device | str) -> Rows:
        """Copy to a device."""
        return Rows(self.pairs.to(device), self.starts.to(device))


@dataclass(frozen=True, eq=False)
class KernelMap:
    """P pairs of a source row and a target row, grouped by kernel offset.

    Attributes:
        source, target: int32 (P,).
        spans: pairs of offset k are ``spans[k]`` to ``spans[k + 1]``; K + 1 numbers.
        sources, targets: how many rows there are.
        by_source, by_target: the pairs of each row.
        center: the offset that maps every row to itself and has no pairs, or None.
    """

    source: Tensor
    target: Tensor
    spans: tuple[int, ...]
    sources: int
    targets: int
    by_source: Rows
    by_target: Rows
    center: int | None = None

    def transposed(self) -> KernelMap:
        """Return the map of the transposed convolution, from targets to sources."""
        return KernelMap(
            self.target,
            self.source,
            self.spans,
            self.targets,
            self.sources,
            self.by_target,
            self.by_source,
            self.center,
        )

    def to(self, device: torch.device | str) -> KernelMap:
        """Copy to a device."""
        return KernelMap(
            self.source.to(device),
            self.target.to(device),
            self.spans,
            self.sources,
            self.targets,
            self.by_source.to(device),
            self.by_target.to(device),
            self.center,
        )


def pack(coordinates: Tensor) -> Tensor:
    """Return a key of each voxel that sorts by batch, x, y, z.

    Args:
        coordinates: int64 (N, 4) batch, x, y, z, from 0 to 65533 each (batch to 32767): a key
            keeps a cell of margin on either side.

    Raises:
        ValueError: for others.
    """
    if len(coordinates) and not 0 <= coordinates.min() <= coordinates.max() < AXIS - 2:
        raise ValueError(f"voxel coordinates must lie in 0 to {AXIS - 3}")
    b, x, y, z = coordinates.unbind(1)
    return (b << 48) | (x + 1 << 32) | (y + 1 << 16) | (z + 1)


def unpack(keys: Tensor) -> Tensor:
    """Return the coordinates (N, 4) of keys."""
    last = AXIS - 1
    axes = (keys >> 32 & last) - 1, (keys >> 16 & last) - 1, (keys & last) - 1
    return torch.stack([keys >> 48, *axes], 1)


def submanifold_map(keys: Tensor) -> KernelMap:
    """Return the neighbours of voxels within 3 x 3 x 3.

    Four binary searches serve all 26 offsets: the cells of a column in z follow one another in
    the order of keys, and the pairs of an offset are those of the opposite one with their roles
    exchanged.

    Args:
        keys: int64 (N,), sorted, each once.
    """
    n, device = len(keys), keys.device
    padded = functional.pad(keys, (0, 3), value=torch.iinfo(torch.int64).max)
    empty = keys[:0]
    source, target = [empty] * 27, [empty] * 27
    for x, y in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
        if x or y:
            query = keys + ((x << 32) + (y << 16))
            at = torch.searchsorted(keys, query - 1)
        else:  # only the voxel above: it is the next key, if it exists
            query, at = keys, torch.arange(1, n + 1, device=device)
        for z in (-1, 0, 1) if x or y else (1,):
            hit = padded[at] == query + z
            offset, rows = CENTER + 9 * x + 3 * y + z, hit.nonzero()[:, 0]
            source[offset], target[offset] = at[rows], rows
            source[26 - offset], target[26 - offset] = rows, source[offset]
            at = at + hit
    counts = [len(one) for one in source]
    spans = [0]
    for count in counts:
        spans.append(spans[-1] + count)
    sources, targets = torch.cat(source), torch.cat(target)
    by_target = Rows.sort(targets, n)
    # Pair i of an offset is pair i of the opposite offset with its roles exchanged.
    mirrored = [spans[26 - k] - spans[k] for k in range(27)]
    shift = torch.repeat_interleave(
        torch.tensor(mirrored, device=device), torch.tensor(counts, device=device)
    )
    mirror = (torch.arange(len(sources), device=device) + shift).int()
    by_source = Rows(mirror[by_target.pairs.long()], by_target.starts)
    return KernelMap(sources.int(), targets.int(), tuple(spans), n, n, by_source, by_target, CENTER)


def strided_map(keys: Tensor) -> tuple[Tensor, KernelMap]:
    """Return the keys of voxels twice as large, and the map from fine to coarse.

    Kernel 2 x 2 x 2 with stride 2; offset 4 x + 2 y + z of the last bits of the coordinates.

    Args:
        keys: int64 (N,), sorted, each once.
    """
    coordinates = unpack(keys)
    x, y, z = (coordinates[:, 1:] & 1).unbind(1)
    octant = 4 * x + 2 * y + z
    halved = torch.cat([coordinates[:, :1], coordinates[:, 1:] >> 1], 1)
    coarse, parent = torch.unique(pack(halved), return_inverse=True)
    source = torch.argsort(octant, stable=True)
    spans = functional.pad(torch.bincount(octant, minlength=8).cumsum(0), (1, 0)).tolist()
    target = parent[source]
    starts = torch.arange(len(keys) + 1, dtype=torch.int32, device=keys.device)
    by_source = Rows(torch.argsort(source).int(), starts)
    by_target = Rows.sort(target, len(coarse))
    made = KernelMap(
        source.int(), target.int(), tuple(spans), len(keys), len(coarse), by_source, by_target
    )
    return coarse, made


@dataclass(frozen=True, eq=False)
class KernelMaps:
    """All maps of a batch of scans for a U-Net.

    Attributes:
        submanifold: within stride 2^i, of each level i.
        down: from level i to i + 1. Its transposed maps lead up.
    """

    submanifold: tuple[KernelMap, ...]
    down: tuple[KernelMap, ...]

    @classmethod
    def build(cls, keys: Tensor, levels: int = LEVELS) -> KernelMaps:
        """Build the maps of voxels.

        Args:
            keys: int64 (N,), sorted, each once (``pack``).
            levels: number of strides.
        """
        submanifold, down = [submanifold_map(keys)], []
        for _ in range(levels - 1):
            keys, strided = strided_map(keys)
            down.append(strided)
            submanifold.append(submanifold_map(keys))
        return cls(tuple(submanifold), tuple(down))

    def to(self, device: torch.device | str) -> KernelMaps:
        """Copy to a device."""
        return KernelMaps(
            tuple(one.to(device) for one in self.submanifold),
            tuple(one.to(device) for one in self.down),
        )
