"""A class for every LiDAR point, and the files that hold such a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.sparse.minkunet import MinkUNet, SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig, voxelize
from lemumo_core.model.weight_file import read_weight_file

POINT_WEIGHTS, POINT_OPTIONS = "points.safetensors", "points.json"
"""A finished run of fine-tuning on points leaves these: weights; network and classes."""


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

    def predict(self, points: Tensor) -> Tensor:
        """Return the class of each point, uint8 (B, M), 255 for those that are no return."""
        return self.classify(points)[0]

    @torch.no_grad()
    def classify(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class of each point, and its confidence.

        Args:
            points: as of ``forward``.

        Returns:
            Uint8 (B, M), 255 for those that are no return, and float32 (B, M), the softmax of the
            class, 0 for those.
        """
        logits, row = self(points)
        if not len(logits):
            nothing = torch.full(row.shape, UNLABELLED, dtype=torch.uint8, device=row.device)
            return nothing, points.new_zeros(row.shape)
        confidence, found = logits.float().softmax(1).max(1)
        there, row = row >= 0, row.clamp(min=0)
        labels = torch.where(there, found.to(torch.uint8)[row], UNLABELLED)
        return labels, torch.where(there, confidence[row], 0.0)


def network_from_dict(values: dict[str, Any]) -> SparseConfig:
    """Rebuild from ``dataclasses.asdict`` or parsed JSON."""
    return SparseConfig(**{**values, "voxels": VoxelConfig(**values["voxels"])})


def load_segmenter(run: Path) -> tuple[PointSegmenter, tuple[str, ...]]:
    """Load the network that a finished run of fine-tuning on points left, in evaluation mode.

    Args:
        run: its folder.

    Returns:
        The network, on the CPU, and the names of its classes by id.

    Raises:
        Fault: ``wrong_weights`` where there is none.
    """
    if not (run / POINT_WEIGHTS).is_file() or not (run / POINT_OPTIONS).is_file():
        raise Fault(
            "wrong_weights",
            f"{run} holds no {POINT_WEIGHTS} and {POINT_OPTIONS}: give the folder of a finished "
            "run of lemumo finetune --task points",
        )
    options = json.loads((run / POINT_OPTIONS).read_text())
    classes = tuple(options["classes"])
    model = PointSegmenter(network_from_dict(options["network"]), len(classes))
    model.load_state_dict(read_weight_file(run / POINT_WEIGHTS))
    return model.eval(), classes
