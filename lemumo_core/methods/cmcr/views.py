"""Input of a step of CMCR: a view, voxels, pairs between them, places on rays.

All that waits for the device happens here, since numbers of voxels and pairs are shapes; the
forward pass then waits for nothing. Every sample draws from a generator of its own, so that ranks
together draw what one rank would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lemumo_core.data.crops import Crops
from lemumo_core.data.samples import Batch, map_tensors
from lemumo_core.data.sweeps import sample_generators, sweep_points, turn_sweeps
from lemumo_core.data.views import MultiCrop, MultiCropConfig, View, clean_view
from lemumo_core.methods.cmcr.occupancy import Queries, draw_queries, with_neighbors
from lemumo_core.methods.method import Draw
from lemumo_core.model.config import PATCH
from lemumo_core.model.sparse.voxels import VoxelConfig, Voxels, voxelize


@dataclass(frozen=True)
class DrawConfig:
    """What is drawn of a sample.

    Attributes:
        matches: pairs of a point and a pixel, if there are as many.
        mask_images: probability that patches of an image are masked.
        mask_patches: probability that a patch of such an image is.
        queries: places on rays of a sweep; 0 draws none.
        neighbors: of a place, at most.
        rotate: turn and mirror sweeps at random.
        wedge_deg: width of the part of a sweep around the camera's axis that is taken; None takes
            all of it.

    Raises:
        ValueError: for anything outside its range.
    """

    matches: int = 256
    mask_images: float = 0.5
    mask_patches: float = 0.5
    queries: int = 256
    neighbors: int = 16
    rotate: bool = True
    wedge_deg: float | None = 100.0

    def __post_init__(self) -> None:
        if self.matches < 1 or self.queries < 0 or self.neighbors < 1:
            raise ValueError("draw: matches and neighbors must be positive, queries not negative")
        if not (0 <= self.mask_images <= 1 and 0 <= self.mask_patches <= 1):
            raise ValueError("draw: mask_images and mask_patches are probabilities in [0, 1]")
        if self.wedge_deg is not None and not 0 < self.wedge_deg <= 360:
            raise ValueError(f"draw: wedge_deg is {self.wedge_deg}, must lie in (0, 360]")


@dataclass(frozen=True, eq=False)
class Returns:
    """The N returns of all sweeps that the views show, with the voxels that hold them.

    Attributes:
        sample: int64 (N,), row of the view.
        row, column: int64 (N,), pixel of the view.
        voxel: int64 (N,).
    """

    sample: Tensor
    row: Tensor
    column: Tensor
    voxel: Tensor

    def cell(self, grid: tuple[int, int]) -> Tensor:
        """Return the patch of each, counted through the batch row by row, int64 (N,)."""
        rows, columns = grid
        return (self.sample * rows + self.row // PATCH) * columns + self.column // PATCH


@dataclass(frozen=True, eq=False)
class CmcrViews:
    """A batch of B samples, ready for a step.

    Attributes:
        view: B rows; the image without its masks.
        voxels: of the sweeps.
        returns: in the views.
        masked: bool (B, rows, columns), patches that are masked.
        contrast_pairs, code_pairs: int64 (B, P), numbers of returns whose pixels are not masked,
            each at most once; -1 for padding.
        queries: places on rays; None where none are drawn.
    """

    view: View
    voxels: Voxels
    returns: Returns
    masked: Tensor
    contrast_pairs: Tensor
    code_pairs: Tensor
    queries: Queries | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the view."""
        return self.view.image.shape[1], self.view.image.shape[2]

    def to(self, device: torch.device | str) -> CmcrViews:
        """Copy to a device."""

        def copied(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        view = map_tensors(self.view, copied)
        labels = None if view.labels is None else map_tensors(view.labels, copied)
        return CmcrViews(
            view=replace(view, crops=view.crops.to(torch.device(device)), labels=labels),
            voxels=self.voxels.to(device),
            returns=map_tensors(self.returns, copied),
            masked=copied(self.masked),
            contrast_pairs=copied(self.contrast_pairs),
            code_pairs=copied(self.code_pairs),
            queries=None if self.queries is None else map_tensors(self.queries, copied),
        )


def cut_views(
    batch: Batch,
    crop: MultiCropConfig,
    voxel: VoxelConfig,
    config: DrawConfig,
    draw: Draw,
    rank: int,
    world: int,
) -> CmcrViews:
    """Cut what a step needs; arguments as of ``Method.views``."""
    (view,) = MultiCrop(crop)(batch, draw("views"), rank, world)
    generators = sample_generators(draw("samples"), len(batch), rank, world)
    points = sweep_points(batch, config.wedge_deg)
    if config.rotate:
        points = turn_sweeps(points, generators)
    voxels = voxelize(points, voxel)
    returns = returns_in_view(batch, view.crops, voxels.row_of_point)

    grid = view.image.shape[1] // PATCH, view.image.shape[2] // PATCH
    masked = torch.stack([_mask(grid, config, one) for one in generators]).to(points.device)
    seen = (view.present[returns.sample, 0] > 0.5) & ~masked.flatten()[returns.cell(grid)]
    pairs = [_draw_pairs(returns, seen, config.matches, generators) for _ in range(2)]
    queries = None
    if config.queries:
        rays = draw_queries(points, voxels.row_of_point >= 0, config.queries, generators)
        queries = with_neighbors(rays, points, voxels.row_of_point, config.neighbors)
    return CmcrViews(view, voxels, returns, masked, pairs[0], pairs[1], queries)


def clean_views(batch: Batch, voxel: VoxelConfig) -> CmcrViews:
    """Return the whole of samples as they are, without masks, pairs or queries."""
    view = clean_view(batch)
    view_crops = view.crops.to(batch.image.device)
    voxels = voxelize(sweep_points(batch), voxel)
    grid = view.image.shape[1] // PATCH, view.image.shape[2] // PATCH
    none = torch.full((len(batch), 0), -1, dtype=torch.int64, device=batch.image.device)
    masked = torch.zeros(len(batch), *grid, dtype=torch.bool, device=batch.image.device)
    returns = returns_in_view(batch, view_crops, voxels.row_of_point)
    return CmcrViews(view, voxels, returns, masked, none, none)


def returns_in_view(batch: Batch, crops: Crops, row_of_point: Tensor) -> Returns:
    """Return the returns that views show and voxels hold.

    Args:
        batch: B samples with ``return_rows``.
        crops: one of each.
        row_of_point: int64 (B, M), the voxel of each point.
    """
    assert batch.return_rows is not None
    u, v, _ = batch.returns.unbind(-1)
    height, width = crops.size
    column, row = crops.columns.pixel(u), crops.rows.pixel(v)
    voxel = _take(row_of_point, batch.return_rows)
    kept = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (voxel >= 0)
    sample, number = kept.nonzero(as_tuple=True)
    return Returns(
        sample,
        row[sample, number].to(torch.int64),
        column[sample, number].to(torch.int64),
        voxel[sample, number],
    )


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """Return (B, N) of values (B, M) by rows (B, N), -1 where the row is -1."""
    if not values.shape[1]:
        return torch.full_like(rows, -1)
    return torch.where(rows >= 0, values.gather(1, rows.clamp(min=0)), -1)


def _mask(grid: tuple[int, int], config: DrawConfig, generator: torch.Generator) -> Tensor:
    image = torch.rand((), generator=generator) < config.mask_images
    return image & (torch.rand(grid, generator=generator) < config.mask_patches)


def _draw_pairs(
    returns: Returns, seen: Tensor, most: int, generators: list[torch.Generator]
) -> Tensor:
    """Draw numbers of returns that are seen, (B, most), without repetition; -1 for padding."""
    pairs = torch.full((len(generators), most), -1, dtype=torch.int64, device=seen.device)
    for sample, generator in enumerate(generators):
        found = (seen & (returns.sample == sample)).nonzero()[:, 0]
        taken = torch.randperm(len(found), generator=generator)[:most].to(seen.device)
        pairs[sample, : len(taken)] = found[taken]
    return pairs
