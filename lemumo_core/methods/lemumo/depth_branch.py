"""Neck and depth head that are pretrained beside the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.heads.depth import DepthHead
from lemumo_core.model.heads.neck import WIDTH, Neck
from lemumo_core.preprocess import Inputs


class DepthBranch(nn.Module):
    """Neck and depth head (``deploy``), by their names in ``PerceptionModel``.

    Args:
        config: of the model, of the size of the views.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...]):
        super().__init__()
        self.neck = Neck(config, modalities)
        self.depth = DepthHead(WIDTH)

    def forward(self, tokens: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Predict depth, metres, and its confidence, (B, H/4, W/4). Arguments as of ``Neck``."""
        depth_m, confidence = self.depth(self.neck(tokens, inputs))
        return depth_m, confidence


def has_depth_head(model: ModelConfig) -> bool:
    """Return whether a model has LiDAR, and a head whose depth starts from its returns."""
    return model.companion == "lidar" and model.head_family == "deploy"
