"""Masks: which cells of the patch grid are encoded, and which of their patches are shown."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.pinned import to_device
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.encoder import Embedded, Encoder
from lemumo_core.preprocess import Inputs

ALONE, SPLIT = 0.25, 0.5
"""Share of the samples that show each modality alone; and, of the cells of the others, the share
that shows one modality of the two, each as often."""


class Masks(NamedTuple):
    """Masks of R views.

    Attributes:
        cells: int64 (M,), the cells of the grid that are encoded, of all samples the same: so
            tokens of one position can be compared across the batch.
        shown: bool (R, 2, M), whether image and companion are shown there; one of them always is.
        grid: rows and columns of the patch grid.
    """

    cells: Tensor
    shown: Tensor
    grid: tuple[int, int]

    @property
    def hidden(self) -> Tensor:
        """Whether image and companion are hidden, bool (R, 2, N), over the whole grid."""
        count = self.grid[0] * self.grid[1]
        hidden = torch.ones(
            *self.shown.shape[:2], count, dtype=torch.bool, device=self.cells.device
        )
        return hidden.index_copy(2, self.cells, ~self.shown)

    def to(self, device: torch.device) -> Masks:
        """Copy the masks to a device."""
        cells, shown = (to_device(x, device) for x in self[:2])
        return Masks(cells, shown, self.grid)


def draw_masks(
    rows: Tensor, count: int, grid: tuple[int, int], keep: float, generator: torch.Generator
) -> Masks:
    """Draw masks for all rows of a step, and return those of some.

    A quarter of the samples show the image alone, a quarter the companion alone; the others show
    both in half of their cells and either in a quarter each.

    Args:
        rows: int64, which rows to return.
        count: rows of all ranks.
        grid: rows and columns of the patch grid.
        keep: share of the cells that are encoded.
        generator: on the CPU; draws the same numbers whatever ``rows`` are.
    """
    cells = torch.randperm(grid[0] * grid[1], generator=generator)
    cells = cells[: max(1, round(keep * len(cells)))].sort().values
    sample = torch.rand(count, 1, generator=generator)
    cell = torch.rand(count, len(cells), generator=generator)
    image = torch.where(sample < ALONE, 0.0, torch.where(sample < 2 * ALONE, 1.0, cell))
    only_image, only_companion = image < SPLIT / 2, image > 1 - SPLIT / 2
    shown = torch.stack([~only_companion, ~only_image], dim=1)
    return Masks(cells, shown[rows], grid)


def check_maskable(model: ModelConfig) -> None:
    """Raise a ValueError for an encoder that sums the patches of its modalities."""
    if model.variant == "early":
        raise ValueError(
            "variant early adds the patches of both modalities, and masked modelling hides one of "
            "them: take another variant"
        )


def embed_masked(encoder: Encoder, inputs: Inputs, masks: Masks) -> Embedded:
    """Embed the cells of views that masks keep; patches that are hidden in them are absent.

    Args:
        encoder: one that embeds the patches of its modalities one by one.
        inputs: of R views.
        masks: of these.
    """
    seen = encoder.embed(inputs, ~masks.hidden)
    patches = tuple(x[:, masks.cells] for x in seen.patches)
    cells = seen.cells[:, masks.cells] if seen.cells.shape[1] else seen.cells
    return Embedded(seen.cls, cells, patches)
