"""Encoders by the name of their variant."""

from __future__ import annotations

from collections.abc import Callable

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.conv_towers import ConvTowers
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.fusion import FullEncoder, PersistentEncoder, PrunedEncoder
from lemumo_core.model.towers import LateEncoder, SingleEncoder

ENCODERS: dict[str, Callable[[ModelConfig], Encoder]] = {
    "pruned": PrunedEncoder,
    "persistent": PersistentEncoder,
    "full": FullEncoder,
    "early": SingleEncoder,
    "late": LateEncoder,
    "camera_only": SingleEncoder,
    "companion_only": SingleEncoder,
}
"""The keys are ``config.VARIANTS``; a test holds them equal."""


def build_encoder(config: ModelConfig) -> Encoder | ConvTowers:
    """The encoder of a configuration, with random weights."""
    if config.backbone != "vit":
        return ConvTowers(config.backbone, config, (config.height, config.width), mapped=False)
    return ENCODERS[config.variant](config)
