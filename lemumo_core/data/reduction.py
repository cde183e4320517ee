"""Frames at a half, a quarter or an eighth of their size, on the grid of libjpeg's scaled decoding.

A pixel of the reduced image covers a block of factor x factor full pixels, starting at the top
left corner; blocks that reach past the right or bottom edge count, filled with the last pixels.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from lemumo_core.frame import Labels
from lemumo_core.geometry.camera import Camera

FACTORS = (8, 4, 2)


def reduction_factor(camera: Camera, at_least: tuple[int, int]) -> int:
    """Return the largest factor, 1 to 8, that leaves at least (height, width) whole pixels.

    It is 1 where even the full image is smaller.
    """
    height, width = at_least
    fits = (f for f in FACTORS if camera.height // f >= height and camera.width // f >= width)
    return next(fits, 1)


def reduced_camera(camera: Camera, factor: int) -> Camera:
    """Return the camera of the reduced image."""
    width, height = -(-camera.width // factor), -(-camera.height // factor)
    return camera.cropped(0, 0, width * factor, height * factor).scaled(width, height)


def reduced_image(image: np.ndarray, factor: int) -> np.ndarray:
    """Average the blocks of an image uint8 (H, W, 3)."""
    if factor == 1:
        return image
    bottom, right = (-length % factor for length in image.shape[:2])
    filled = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    size = filled.shape[1] // factor, filled.shape[0] // factor
    return cv2.resize(filled, size, interpolation=cv2.INTER_AREA)


def reduced_labels(labels: Labels, factor: int) -> Labels:
    """Return the labels of the reduced image.

    Of every block of a map the pixel beside its middle is taken, so that no class, instance or
    depth is made up.
    """
    if factor == 1:
        return labels

    def boxes(full: np.ndarray | None) -> np.ndarray | None:
        return None if full is None else ((full + 0.5) / factor - 0.5).astype(full.dtype)

    return replace(
        labels,
        boxes_2d=boxes(labels.boxes_2d),
        ignore=boxes(labels.ignore),
        label_map=_middles(labels.label_map, factor),
        instance_map=_middles(labels.instance_map, factor),
        depth_m=_middles(labels.depth_m, factor),
    )


def _middles(values: np.ndarray | None, factor: int) -> np.ndarray | None:
    if values is None:
        return None
    rows, columns = (
        np.minimum(np.arange(factor // 2, length + factor // 2, factor), length - 1)
        for length in values.shape
    )
    return values[np.ix_(rows, columns)]
