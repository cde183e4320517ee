"""A picture of many Frames, to see at a glance whether a source is right."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.depth_projection import project_depth
from lemumo_core.drawing import (
    WHITE,
    Z_MIN_M,
    blend_labels,
    depth_colors,
    draw_boxes,
    draw_rectangles,
    draw_returns,
    write,
)
from lemumo_core.frame import Frame, LidarScan, RasterImage, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import legend_colors

TILE_WIDTH = 480
COLUMNS = 4
CAPTION_PX = 18


def contact_sheet(source: FrameSource, tiles: int) -> np.ndarray:
    """Draw Frames that are evenly spaced over a source.

    Returns:
        uint8 (H, W, 3) RGB. Each tile: above, the image with boxes and LiDAR returns (red near,
        blue far); below, the thermal image, else the label map, else the dense depth,
        else the returns alone.
    """
    pictures = [_tile(source[index], index) for index in evenly_spaced(len(source), tiles)]
    height = max(len(picture) for picture in pictures)
    columns = min(COLUMNS, len(pictures))
    blank = np.zeros((height, TILE_WIDTH, 3), np.uint8)
    pictures = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0))) for p in pictures]
    pictures += [blank] * (-len(pictures) % columns)
    rows = [np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    return np.vstack(rows)


def _tile(frame: Frame, index: int) -> np.ndarray:
    height = max(1, round(frame.camera.height * TILE_WIDTH / frame.camera.width))
    size = (TILE_WIDTH, height)
    view = frame.camera.scaled(*size)
    above = np.zeros((height, TILE_WIDTH, 3), np.uint8)
    if frame.image is not None:
        above[:] = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    if isinstance(frame.companion, LidarScan):
        draw_returns(above, frame.companion, view)
    _draw_labelled_boxes(above, frame, view)
    caption = f"{index} {frame.camera_name} {frame.stamp_ns / 1e9:.3f}"
    write(above, caption, (4, CAPTION_PX - 5), scale=0.4)
    below = cv2.resize(_second(frame, view), size, interpolation=cv2.INTER_NEAREST)
    return np.vstack([above, below])


def _second(frame: Frame, view: Camera) -> np.ndarray:
    """Return the lower picture of a tile, at any size."""
    labels = frame.labels
    companion = frame.companion
    if isinstance(companion, RasterImage):
        return _gray(companion.bands[..., 0])
    if isinstance(companion, ThermalImage):
        return _gray(companion.image)
    if labels is not None and labels.label_map is not None:
        picture = np.zeros((*labels.label_map.shape, 3), np.uint8)
        blend_labels(picture, labels.label_map, legend_colors(labels.label_names), weight=1.0)
        return picture
    if labels is not None and labels.depth_m is not None:
        return depth_colors(labels.depth_m)
    if isinstance(frame.companion, LidarScan):
        half = view.scaled((view.width + 1) // 2, (view.height + 1) // 2)  # for larger dots
        scan = frame.companion
        depth_m = project_depth(scan.points, scan.T_camera_lidar, half, Z_MIN_M)
        return depth_colors(depth_m)
    return np.zeros((1, 1, 3), np.uint8)


def _gray(values: np.ndarray) -> np.ndarray:
    """Return a picture of one band from its least to its largest value, unknown ones black."""
    values = values.astype(np.float32)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    gray = np.nan_to_num((values - low) * (255 / (float(high - low) or 1.0)))
    return np.dstack([gray.clip(0, 255).astype(np.uint8)] * 3)


def _draw_labelled_boxes(picture: np.ndarray, frame: Frame, view: Camera) -> None:
    """Draw 3D boxes where there are any, else 2D ones."""
    labels = frame.labels
    if labels is None:
        return
    if labels.boxes_3d is not None:
        draw_boxes(picture, labels.boxes_3d, view, [WHITE] * len(labels.boxes_3d), 1)
    elif labels.boxes_2d is not None:
        boxes_2d = labels.boxes_2d * (view.width / frame.camera.width)
        draw_rectangles(picture, boxes_2d, [WHITE] * len(boxes_2d))
