"""From the pooled features of a modality to its embedding."""

from __future__ import annotations

from torch import nn

from lemumo_core.distributed import BatchNorm1d


def projector(width: int, dims: int) -> nn.Sequential:
    """Return three layers without biases, K wide, with batch norm over all ranks between them.

    Each view of a modality goes through a call of its own, and so has statistics of its own.

    Args:
        width: D of the pooled features.
        dims: K.
    """
    return nn.Sequential(
        *(nn.Linear(width, dims, bias=False), BatchNorm1d(dims), nn.ReLU()),
        *(nn.Linear(dims, dims, bias=False), BatchNorm1d(dims), nn.ReLU()),
        nn.Linear(dims, dims, bias=False),
    )
