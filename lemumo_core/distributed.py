"""Batch statistics over all ranks, with gradients.

Every rank holds an equal share of the batch and computes the same loss from the statistics of the
whole batch. DDP then averages the ranks' gradients; with ``mean_over_ranks`` the result is the
gradient of that one loss, so that W ranks of B samples are one rank of W B samples.

The collectives are operators of our own, which a compiler takes as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn


def world_size() -> int:
    """Return the number of ranks; 1 without a process group.

    It is asked at every call, since a module may be built before the group.
    """
    return distributed.get_world_size() if _initialized() else 1


def mean_over_ranks(x: Tensor) -> Tensor:
    """Average a tensor of one shape over all ranks; its gradient is averaged likewise."""
    return x if world_size() == 1 else _mean_over_ranks(x)


def gather_rows(x: Tensor) -> Tensor:
    """Concatenate the rows (B, ...) of all ranks, in their order: (W B, ...), with gradient.

    The gradient of a rank's rows is the sum of what all ranks give for them.
    """
    return x if world_size() == 1 else _gather_rows(x)


def rows_of_rank(rows: int, draw: Callable[[int], Tensor]) -> Tensor:
    """Return this rank's rows of a random draw for the rows of all ranks.

    Ranks whose generators agree draw what one rank would that holds all rows, in order of ranks.

    Args:
        rows: of this rank, the same number on each.
        draw: takes a number of rows.
    """
    start = rows * (distributed.get_rank() if _initialized() else 0)
    return draw(rows * world_size())[start : start + rows]


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation of (B, D) by the statistics of all ranks.

    As ``nn.SyncBatchNorm``, which does not run on CPUs, and with the weights of ``nn.BatchNorm1d``.
    Like that, on every rank, it needs more than one sample in all while training.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, D)."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        return _normalized_over_ranks(self, input)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of (B, D, h, w) by the statistics of all ranks."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, D, h, w)."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        return _normalized_over_ranks(self, input)


def _normalized_over_ranks(norm: BatchNorm1d | BatchNorm2d, input: Tensor) -> Tensor:
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    over = [axis for axis in range(x.ndim) if axis != 1]
    # One collective: mean and variance of each rank, whose shares are equal.
    own = torch.stack([x.mean(over), x.var(over, correction=0)])
    means, variances = gather_rows(own[None]).unbind(1)
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    with torch.no_grad():
        assert norm.running_mean is not None and norm.running_var is not None
        assert norm.num_batches_tracked is not None and norm.momentum is not None
        count = world_size() * x.numel() / x.shape[1]
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    channels = [-1, *(1 for _ in over[1:])]
    normed = (x - mean.view(channels)) * (variance + norm.eps).rsqrt().view(channels)
    return (normed * norm.weight.view(channels) + norm.bias.view(channels)).to(input.dtype)


@torch.library.custom_op("lemumo::mean_over_ranks", mutates_args=())
def _mean_over_ranks(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / world_size()


@_mean_over_ranks.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_mean_over_ranks.register_autograd(lambda ctx, gradient: _mean_over_ranks(gradient))


@torch.library.custom_op("lemumo::gather_rows", mutates_args=())
def _gather_rows(x: Tensor) -> Tensor:
    x = x.contiguous()
    parts = [torch.empty_like(x) for _ in range(world_size())]
    distributed.all_gather(parts, x)
    return torch.cat(parts)


@_gather_rows.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(len(x) * world_size(), *x.shape[1:])


@torch.library.custom_op("lemumo::sum_of_own_rows", mutates_args=())
def _sum_of_own_rows(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total.chunk(world_size())[distributed.get_rank()].clone()


@_sum_of_own_rows.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(len(x) // world_size(), *x.shape[1:])


_gather_rows.register_autograd(lambda ctx, gradient: _sum_of_own_rows(gradient))


def _initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()
