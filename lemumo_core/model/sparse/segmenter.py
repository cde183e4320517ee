"""A class for every LiDAR point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.frame import UNLABELLED
from lemumo_core.model.sparse.minkunet import MinkUNet, SparseConfig
from lemumo_core.model.sparse.voxels import voxelize


class PointSegmenter(nn.Module):
    """A MinkUNet and a linear head.

    Args:
        config: of the network.
        classes: how many.
    """

    def __init__(self, config: SparseConfig, classes: int):
        super().__init__()
        self.network = MinkUNet(config)
        self.head = nn.Linear(config.channels, classes)

    def forward(self, points: Tensor, network_learns: bool = True) -> tuple[Tensor, Tensor]:
        """Predict the classes of voxels. It waits for the device.

        Args:
            points: float32 (B, M, 4) x, y, z, metres, and intensity 0 to 255, LiDAR frame.
            network_learns: whether a gradient reaches the network.

        Returns:
            Logits (V, C), and int64 (B, M), the voxel of each point, -1 for those that are no
            return.
        """
        voxels = voxelize(points, self.network.config.voxels)
        with torch.set_grad_enabled(network_learns and torch.is_grad_enabled()):
            x = self.network(voxels)
        return self.head(x), voxels.row_of_point

    @torch.no_grad()
    def predict(self, points: Tensor) -> Tensor:
        """Return the class of each point, uint8 (B, M), 255 for those that are no return."""
        logits, row = self(points)
        if not len(logits):
            return torch.full(row.shape, UNLABELLED, dtype=torch.uint8, device=row.device)
        found = logits.argmax(1).to(torch.uint8)[row.clamp(min=0)]
        return torch.where(row >= 0, found, UNLABELLED)
