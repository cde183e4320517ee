"""From the pooled features of a modality to its embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.distributed import BatchNorm1d


class Projector(nn.Sequential):
    """Three layers without biases, K wide, with batch norm over all ranks between them.

    Each group of features, a view of a modality, has batch statistics of its own. The linear maps,
    whose weights are large and batches small, take all groups at once.

    Args:
        width: D of the pooled features.
        dims: K.
    """

    def __init__(self, width: int, dims: int):
        super().__init__(
            *(nn.Linear(width, dims, bias=False), BatchNorm1d(dims), nn.ReLU()),
            *(nn.Linear(dims, dims, bias=False), BatchNorm1d(dims), nn.ReLU()),
            nn.Linear(dims, dims, bias=False),
        )

    def forward(self, groups: Tensor) -> Tensor:
        """Project groups of pooled features (G, B, D): embeddings (G, B, K)."""
        for layer in self:
            if isinstance(layer, BatchNorm1d):
                groups = torch.stack([layer(group) for group in groups])
            else:
                groups = layer(groups)
        return groups
