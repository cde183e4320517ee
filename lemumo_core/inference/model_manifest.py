"""Builder of the manifest of a model, from its configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from lemumo_core.inference.manifest import Manifest
from lemumo_core.model.config import ModelConfig
from lemumo_core.taxonomy import SEGMENTATION_CLASSES


def manifest_of(config: ModelConfig, name: str, trained: bool, **more: Any) -> Manifest:
    """The manifest of a model.

    Args:
        config: of the model.
        name: of the model.
        trained: False for random weights.
        more: of ``Manifest``, e.g. ``training``, ``metrics`` and ``losses``.
    """
    classes = config.segmentation_classes
    return Manifest(
        name=name,
        version="0.1.0",
        trained=trained,
        model=asdict(config),
        input=config.input_spec,
        detection_classes=config.detection_classes,
        segmentation_classes=classes,
        palette=tuple(SEGMENTATION_CLASSES.get(c, _color(i)) for i, c in enumerate(classes)),
        **more,
    )


def _color(index: int) -> tuple[int, int, int]:
    """A distinct colour for a class that the default taxonomy does not name."""
    rng = np.random.default_rng(index)
    r, g, b = (int(value) for value in rng.integers(40, 256, 3))
    return r, g, b
