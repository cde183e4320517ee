"""Images made smaller."""

from __future__ import annotations

import cv2
import numpy as np


def reduced(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Height and width of an image that is smaller by a factor, rounded up."""
    return -(-size[0] // factor), -(-size[1] // factor)


def shrunk(image: np.ndarray, width: int, height: int, rows: int) -> np.ndarray:
    """Antialiased resize: exact halvings, then one bilinear step of less than two.

    A tenth of the time of one INTER_AREA step with a fractional factor (12 ms at 1080p). Only the
    last ``rows`` rows of the result are right: nothing is halved for others.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        size = reduced(image.shape[:2], 2)
        # The bilinear step also reads what lies just above.
        first = max(0, (height - rows - 2) * size[0] // height) if image.shape[0] % 2 == 0 else 0
        halved, shown = np.empty((*size, 3), np.uint8), (size[1], size[0] - first)
        cv2.resize(image[2 * first :], shown, halved[first:], interpolation=cv2.INTER_AREA)
        image = halved
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
