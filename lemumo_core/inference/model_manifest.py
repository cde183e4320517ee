"""Builder of the manifest of a model, from its configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lemumo_core.inference.manifest import Manifest
from lemumo_core.model.config import ModelConfig


def manifest_of(config: ModelConfig, name: str, trained: bool, **more: Any) -> Manifest:
    """The manifest of a model.

    Args:
        config: of the model.
        name: of the model.
        trained: False for random weights.
        more: of ``Manifest``, e.g. ``training``, ``metrics`` and ``losses``.
    """
    return Manifest(
        name=name,
        version="0.1.0",
        trained=trained,
        model=asdict(config),
        input=config.input_spec,
        detection_classes=config.detection_classes,
        segmentation_classes=config.segmentation_classes,
        palette=config.classes.palette,
        **more,
    )
