"""Views that suit a run of minutes on two CPU cores; recipes give the papers'."""

from __future__ import annotations

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.views import MultiCropConfig

SMALL_VIEWS = MultiCropConfig(
    global_size=(64, 128),
    local_size=(32, 64),
    local_views=2,
    global_scale=(0.5, 1.0),
    local_scale=(0.2, 0.5),
    photometric=Photometric(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0
    ),
)
"""Two global views and two local ones, alike enough to learn from in minutes."""
