"""One codebook for the shared features of points and pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.distributed import mean_over_ranks, world_size

DECAY = 0.999
"""Share of its old value that a code keeps at each of the two updates of a step: by the codes of
points, and by those of pixels."""


class Codebook(nn.Module):
    """Unit codes that follow the features assigned to them.

    The reference also keeps counts by which it divides before it normalises the codes, which
    changes nothing; they are left out.

    Args:
        count: of codes.
        width: of a code.
    """

    codes: Tensor
    sums: Tensor

    def __init__(self, count: int, width: int):
        super().__init__()
        codes = functional.normalize(torch.empty(count, width).uniform_(-1, 1), dim=1)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self._seen: tuple[Tensor, Tensor] | None = None

    def assign(self, features: Tensor) -> Tensor:
        """Return the number of the nearest code of each row (..., D), int64 (...)."""
        # Codes have unit length: the nearest one has the largest product.
        return (features.detach() @ self.codes.T).argmax(-1)

    def quantize(self, features: Tensor) -> Tensor:
        """Return the nearest codes; the gradient passes straight through to the features."""
        return features + (self.codes[self.assign(features)] - features).detach()

    @torch.no_grad()
    def observe(self, points: Tensor, pixels: Tensor, valid: Tensor) -> None:
        """Remember the pairs of a step for ``update``.

        Args:
            points: (n, D), shared features of the points of pairs.
            pixels: (n, D), of their pixels.
            valid: bool (n,), which rows are pairs.
        """
        both = (points + pixels) * valid[:, None]
        point_sums, pixel_sums = (
            torch.zeros_like(self.sums).index_add_(0, self.assign(one), both)
            for one in (points, pixels)
        )
        self._seen = point_sums, pixel_sums

    @torch.no_grad()
    def update(self) -> None:
        """Move the codes towards what was observed on all ranks, if anything was."""
        if self._seen is None:
            return
        for found in self._seen:
            over_ranks = mean_over_ranks(found) * world_size()
            self.sums.mul_(DECAY).add_(over_ranks, alpha=(1 - DECAY) / 2)
        self.codes.copy_(functional.normalize(self.sums, dim=1))
        self._seen = None
