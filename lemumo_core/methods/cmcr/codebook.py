"""One codebook for the shared features of points and pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.distributed import gather_rows, mean_over_ranks, world_size

PATIENCE = 16
"""A code that no feature was assigned to for so many steps is unused."""


@dataclass(frozen=True)
class CodebookConfig:
    """How many codes there are, and how they follow the features.

    Attributes:
        count: of codes.
        decay: share of its old value that a code keeps at each of the two updates of a step: by
            the codes of points, and by those of pixels.
        revive: codes that are unused take the place of features (random restarts of Jukebox,
            arXiv 2005.00341, section 3.2); at the first step all are. Without it, codes that lie
            far from all features at the start are never used.

    Raises:
        ValueError: fewer than two codes, or a decay outside [0, 1).
    """

    count: int = 400
    decay: float = 0.99
    revive: bool = True

    def __post_init__(self) -> None:
        if self.count < 2 or not 0 <= self.decay < 1:
            raise ValueError(
                f"codebook: count must be at least 2 and decay at least 0 and below 1: {self}"
            )


class Codebook(nn.Module):
    """Unit codes that follow the features assigned to them.

    The reference also keeps counts by which it divides before it normalises the codes, which
    changes nothing; they are left out.

    Args:
        config: see there.
        width: of a code.
    """

    codes: Tensor
    sums: Tensor
    idle_steps: Tensor

    def __init__(self, config: CodebookConfig, width: int):
        super().__init__()
        self.config = config
        codes = functional.normalize(torch.empty(config.count, width).uniform_(-1, 1), dim=1)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("idle_steps", torch.full((config.count,), PATIENCE))
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def assign(self, features: Tensor) -> Tensor:
        """Return the number of the nearest code of each row (..., D), int64 (...)."""
        # Codes have unit length: the nearest one has the largest product.
        return (features.detach() @ self.codes.T).argmax(-1)

    def quantize(self, features: Tensor) -> Tensor:
        """Return the nearest codes; the gradient passes straight through to the features."""
        return features + (self.codes[self.assign(features)] - features).detach()

    def observe(self, points: Tensor, pixels: Tensor, valid: Tensor) -> None:
        """Remember the pairs of a step for ``update``.

        Args:
            points: (n, D), shared features of the points of pairs.
            pixels: (n, D), of their pixels.
            valid: bool (n,), which rows are pairs.
        """
        self._seen = points.detach(), pixels.detach(), valid

    @torch.no_grad()
    def update(self) -> None:
        """Move the codes towards what was observed on all ranks, if anything was."""
        if self._seen is None:
            return
        points, pixels, valid = self._seen
        self._seen, decay = None, self.config.decay
        both = (points + pixels) * valid[:, None]
        if self.config.revive:
            self._revive(gather_rows(both), gather_rows(valid.to(both.dtype)) > 0.5)
        uses = torch.zeros_like(self.codes[:, 0])
        for codes in (self.assign(points), self.assign(pixels)):
            found = torch.zeros_like(self.sums).index_add_(0, codes, both)
            found = mean_over_ranks(found) * world_size()
            self.sums.mul_(decay).add_(found, alpha=(1 - decay) / 2)
            uses.index_add_(0, codes, valid.to(uses.dtype))
        self.idle_steps.add_(1).mul_(mean_over_ranks(uses) == 0)
        self.codes.copy_(functional.normalize(self.sums, dim=1))

    def _revive(self, pairs: Tensor, valid: Tensor) -> None:
        """Put pairs, spread over all valid ones, in the place of unused codes."""
        unused = self.idle_steps >= PATIENCE
        # No number of rows is asked for, so that no device is waited for.
        spread = (unused.cumsum(0) - 1) * valid.sum() // unused.sum().clamp(min=1)
        rows = torch.argsort(~valid, stable=True)[spread.clamp(min=0)]
        unused = unused & valid.any()
        new = functional.normalize(pairs[rows], dim=1)
        for mine in (self.codes, self.sums):
            mine.copy_(torch.where(unused[:, None], new, mine))
        self.idle_steps.mul_(~unused)
