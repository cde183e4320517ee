"""Depth as it is published, which has no sky."""

from __future__ import annotations

import numpy as np

from lemumo_core.frame import Perception
from lemumo_core.taxonomy import Taxonomy

SKY = "sky"
"""Kind of classes (``Taxonomy.kind``) that are at no distance."""


def published_depth_m(perception: Perception, classes: Taxonomy) -> np.ndarray:
    """Return dense depth, float32 (h, w), metres, NaN where it is unknown or the label is sky.

    Nothing measures the sky, so a network says any depth there, and whoever reads the depth image
    would meet a wall.

    Args:
        perception: result of the model.
        classes: of the model.
    """
    is_sky = np.zeros(256, bool)
    is_sky[: len(classes.segmentation_classes)] = [
        classes.kind(name) == SKY for name in classes.segmentation_classes
    ]
    return np.where(is_sky[perception.labels], np.float32(np.nan), perception.depth_m)
