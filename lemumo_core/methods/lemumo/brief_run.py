"""Defaults of Le MuMo JEPA that suit a run of minutes; recipes give the paper's."""

from __future__ import annotations

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.views import MultiCropConfig

SMALL_VIEWS = MultiCropConfig(
    global_size=(48, 96),
    local_size=(32, 48),
    global_scale=(0.8, 1.0),
    local_scale=(0.5, 0.8),
    photometric=Photometric(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0
    ),
)
"""Views alike enough to learn from in minutes; recipes take the paper's."""
MASK_RETURNS = 30.0
"""Weight of masked LiDAR modelling."""
