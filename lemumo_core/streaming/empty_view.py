"""Frames of which a sensor shows nothing: no return in view, or an image without contrast."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.depth_projection import explain_empty_view
from lemumo_core.frame import Frame, LidarScan, Perception

EMPTY_VIEWS = 5
"""Consecutive frames without a return in view after which a setting is at fault, not the scene."""

ROWS = 270
"""Enough rows of an image to tell; of larger ones some are passed over, and as many columns."""
LEAST_CONTRAST = 1.0
"""Standard deviation of the levels, 0 to 255, of an image reduced to 16 x 16 pixels. Less is noise:
black with noise of 12 levels has .5, a street with a sixteenth of the light of the day 4.2."""


def is_blank(image: np.ndarray) -> bool:
    """Return whether an image, uint8 (H, W, 3), is of one colour all over: a lens is covered."""
    step = max(1, len(image) // ROWS)
    picture = cv2.resize(image[::step, ::step], (16, 16), interpolation=cv2.INTER_AREA)
    return bool(picture.std(axis=(0, 1)).max() < LEAST_CONTRAST)


def is_empty(frame: Frame, perception: Perception) -> bool:
    """Return whether a frame's LiDAR had no return in the view of the network."""
    return isinstance(frame.companion, LidarScan) and "lidar" not in perception.modalities


class EmptyViews:
    """Counts consecutive frames without a return in view."""

    def __init__(self) -> None:
        self.count = 0
        self._consecutive = 0
        self._cause = ""

    def update(self, frame: Frame, perception: Perception) -> str:
        """Count a result; return the cause from the ``EMPTY_VIEWS``th empty one on, else ''."""
        if not is_empty(frame, perception):
            self._consecutive, self._cause = 0, ""
            return ""
        self.count += 1
        self._consecutive += 1
        if self._consecutive % EMPTY_VIEWS == 0:  # from time to time: settings may change
            self._cause = f"no lidar return is in view: {explain_empty_view(frame)}"
        return self._cause


class BlankImages:
    """Tells whether images have shown nothing for some results; looks at one in ``EMPTY_VIEWS``."""

    def __init__(self) -> None:
        self._results = 0
        self._looks = 0

    def update(self, image: np.ndarray | None) -> bool:
        """Count a result; return whether the last two images that were looked at are blank."""
        if image is not None:
            if self._results % EMPTY_VIEWS == 0:
                self._looks = self._looks + 1 if is_blank(image) else 0
            self._results += 1
        return self._looks > 1
