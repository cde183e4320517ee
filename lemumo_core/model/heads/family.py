"""Families of heads: which classes read the encoder's tokens, each with its loss and decoder.

``paper`` reproduces arXiv 2603.24327; ``deploy`` is ours; ``fcn`` is DeCUR's for segmentation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.heads.centernet import CenterNetHead, PaperCenterNetHead
from lemumo_core.model.heads.centernet_2d import CenterNet2dHead, PaperCenterNet2dHead
from lemumo_core.model.heads.depth import DepthHead, PaperDepthHead
from lemumo_core.model.heads.layers import Features
from lemumo_core.model.heads.neck import Neck
from lemumo_core.model.heads.segmentation import (
    FcnSegmentationHead,
    PaperSegmentationHead,
    SegmentationHead,
)
from lemumo_core.preprocess import Inputs


class TokenMaps(nn.Module):
    """The neck of the paper's heads: tokens as maps, without weights and depth hypotheses.

    Args:
        config: of the model.
        modalities: not looked at; ``Neck`` takes them.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...]):
        super().__init__()
        self.grid, self.width = config.grid, config.token_dim

    def forward(self, tokens: Tensor, inputs: Inputs) -> Features:
        """Return the tokens (B, N, D') as maps (B, D', H/16, W/16)."""
        maps = tokens.transpose(1, 2).unflatten(2, self.grid)
        return Features(maps, maps[:, :0])


class HeadFamily(NamedTuple):
    """Classes of a family.

    Attributes:
        neck: makes ``Features`` of the encoder's tokens and the network's inputs.
        detection: heads by ``ModelConfig.detection``, each with its ``stride``, ``loss`` and
            ``decoder``.
        depth: head with its ``loss``.
        segmentation: head with its ``loss``.
    """

    neck: Any
    detection: dict[str, Any]
    depth: Any
    segmentation: Any


FAMILIES = {
    "paper": HeadFamily(
        TokenMaps,
        {"3d": PaperCenterNetHead, "2d": PaperCenterNet2dHead},
        PaperDepthHead,
        PaperSegmentationHead,
    ),
    "deploy": HeadFamily(
        Neck,
        {"3d": CenterNetHead, "2d": CenterNet2dHead},
        DepthHead,
        SegmentationHead,
    ),
    "fcn": HeadFamily(
        TokenMaps,
        {"3d": PaperCenterNetHead, "2d": PaperCenterNet2dHead},
        PaperDepthHead,
        FcnSegmentationHead,
    ),
}
"""The keys are ``config.HEAD_FAMILIES``."""
