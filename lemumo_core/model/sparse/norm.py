"""Batch normalisation of rows, over ranks that hold different numbers of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.distributed import mean_over_ranks, world_size


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of (N, C) by the statistics of all rows on all ranks.

    Fewer than two rows in all have no statistics: the running ones are taken.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C)."""
        if self.training and world_size() > 1:
            return self._over_ranks(input)
        n, channels = input.shape
        # As a channels-last image, for which PyTorch has a vectorised kernel (3 times as fast).
        image = input.view(1, 1, n, channels).permute(0, 3, 1, 2)
        training = self.training and n > 1
        if training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        normed = nn.functional.batch_norm(
            image,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training,
            self.momentum or 0.0,
            self.eps,
        )
        return normed.permute(0, 2, 3, 1).reshape(n, channels)

    def _over_ranks(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        sums = torch.cat([x.sum(0), x.new_tensor([float(len(x))])])
        sums = mean_over_ranks(sums)
        count = (sums[-1] * world_size()).detach()
        mean = sums[:-1] / sums[-1].detach().clamp(min=1e-9)
        square = mean_over_ranks((x - mean).square().sum(0))
        variance = square * world_size() / count.clamp(min=1.0)
        enough = (count > 1).to(x.dtype)
        with torch.no_grad():
            self.num_batches_tracked += 1
            rate = self.momentum * enough
            unbiased = variance * count / (count - 1).clamp(min=1.0)
            self.running_mean += rate * (mean - self.running_mean)
            self.running_var += rate * (unbiased - self.running_var)
        mean = torch.where(count > 1, mean, self.running_mean)
        variance = torch.where(count > 1, variance, self.running_var)
        normed = (x - mean) * (variance + self.eps).rsqrt()
        return normed * self.weight + self.bias
