"""A picture of many Frames, to see at a glance whether a source is right."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.data.sources import FrameSource
from lemumo_core.depth_projection import project_depth
from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.geometry.boxes import box_corners, clip_edges
from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

TILE_WIDTH = 480
COLUMNS = 4
MAX_DEPTH_M = 60.0
Z_MIN_M = 1.0
CAPTION_PX = 18
BOX_COLOR = (255, 255, 255)
UNKNOWN = (24, 24, 24)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(source: FrameSource, tiles: int) -> np.ndarray:
    """Draw Frames spread evenly over a source.

    Returns:
        uint8 (H, W, 3) RGB. Each tile: above, the image with boxes and LiDAR returns (red near,
        blue far); below, the thermal image, else the label map, else the dense depth,
        else the returns alone.
    """
    chosen = np.unique(np.linspace(0, len(source) - 1, min(tiles, len(source))).round().astype(int))
    pictures = [_tile(source[int(index)], int(index)) for index in chosen]
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
        returns = _returns(frame.companion, view)
        np.copyto(above, returns, where=(returns != UNKNOWN).any(axis=-1, keepdims=True))
    _draw_boxes(above, frame, view)
    above[:CAPTION_PX] //= 3
    caption = f"{index} {frame.camera_name} {frame.stamp_ns / 1e9:.3f}"
    cv2.putText(above, caption, (4, CAPTION_PX - 5), FONT, 0.4, BOX_COLOR, 1, cv2.LINE_AA)
    below = cv2.resize(_second(frame, view), size, interpolation=cv2.INTER_NEAREST)
    return np.vstack([above, below])


def _returns(scan: LidarScan, view: Camera) -> np.ndarray:
    return _depth_colors(project_depth(scan.points, scan.T_camera_lidar, view, Z_MIN_M))


def _second(frame: Frame, view: Camera) -> np.ndarray:
    """The lower picture of a tile, at any size."""
    labels = frame.labels
    if isinstance(frame.companion, ThermalImage):
        counts = frame.companion.image.astype(np.float32)
        grey = (counts - counts.min()) * (255 / max(float(np.ptp(counts)), 1.0))
        return np.dstack([grey.astype(np.uint8)] * 3)
    if labels is not None and labels.label_map is not None:
        palette = np.full((256, 3), UNKNOWN, np.uint8)
        palette[: len(SEGMENTATION_CLASSES)] = list(SEGMENTATION_CLASSES.values())
        return palette[labels.label_map]
    if labels is not None and labels.depth_m is not None:
        return _depth_colors(labels.depth_m)
    if isinstance(frame.companion, LidarScan):
        half = view.scaled((view.width + 1) // 2, (view.height + 1) // 2)  # for larger dots
        return _returns(frame.companion, half)
    return np.full((1, 1, 3), UNKNOWN, np.uint8)


def _draw_boxes(picture: np.ndarray, frame: Frame, view: Camera) -> None:
    """3D boxes where there are any, else 2D ones."""
    labels = frame.labels
    if labels is None:
        return
    if labels.boxes_3d is not None:
        for corners in box_corners(labels.boxes_3d.astype(np.float64)):
            segments = clip_edges(corners)
            uv, valid = view.project(segments.reshape(-1, 3))
            uv = np.clip(uv, -1e4, 1e4).reshape(-1, 2, 2)  # OpenCV's lines overflow far outside
            for start, end in uv[valid.reshape(-1, 2).all(axis=1)].round().astype(int).tolist():
                cv2.line(picture, start, end, BOX_COLOR, 1, cv2.LINE_AA)
    elif labels.boxes_2d is not None:
        scale = view.width / frame.camera.width
        for x1, y1, x2, y2 in (labels.boxes_2d * scale).round().astype(int).tolist():
            cv2.rectangle(picture, (x1, y1), (x2, y2), BOX_COLOR, 1)


def _depth_colors(depth_m: np.ndarray) -> np.ndarray:
    """Depth (H, W) to uint8 (H, W, 3) RGB: red near, blue far, NaN dark."""
    nearness = 1 - np.clip(np.nan_to_num(depth_m, nan=0.0) / MAX_DEPTH_M, 0, 0.9)
    colors = cv2.applyColorMap((255 * nearness**2).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(np.isnan(depth_m)[..., None], np.array(UNKNOWN, np.uint8), colors)
