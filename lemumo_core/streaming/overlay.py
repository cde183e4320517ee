"""Draw a result over its input."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.drawing import (
    blend_labels,
    class_colors,
    depth_colors,
    draw_boxes,
    draw_rectangles,
    draw_returns,
    write,
)
from lemumo_core.frame import UNLABELLED, Frame, LidarScan, Perception
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.inference.manifest import Manifest
from lemumo_core.streaming.published_depth import published_depth_m

FULL_SIZE_WIDTH, SMALLEST = 960, 0.6
"""Images of fewer pixels across have text and lines as much smaller, down to this share."""


def draw_overlay(frame: Frame, perception: Perception, manifest: Manifest) -> np.ndarray:
    """Draw a result over its input.

    Args:
        frame: input; without an image the canvas is black.
        perception: result of the model.
        manifest: manifest of the model, for class names and colours.

    Returns:
        Picture, uint8 (2 H, W, 3) RGB. Above: the image with label colours, LiDAR returns coloured
        by depth, boxes and a caption. Below: the dense depth, red near to blue far, the sky black.
    """
    camera, view, found = frame.camera, perception.output_camera, perception.detections
    scale = min(max(camera.width / FULL_SIZE_WIDTH, SMALLEST), 1.0)
    line_px = round(2 * scale)
    size = camera.width, camera.height
    picture = np.zeros((*size[::-1], 3), np.uint8)
    if frame.image is not None:
        cv2.resize(frame.image, size, picture)  # a copy, where it is not a reduced one
    labels = look_up(perception.labels, view, camera, UNLABELLED)
    blend_labels(picture, labels, manifest.palette)
    if isinstance(frame.companion, LidarScan):
        draw_returns(picture, frame.companion, camera, line_px)
    palette = class_colors(len(manifest.detection_classes))
    colors = [palette[class_id] for class_id in found.class_ids]
    if manifest.numbers_of_box == 7:
        draw_boxes(picture, found.boxes_3d, camera, colors, line_px)
    else:
        draw_rectangles(picture, found.boxes_2d, colors, line_px)
    for i, color in enumerate(colors):
        x, y = (int(at) for at in found.boxes_2d[i, :2])
        name = manifest.detection_classes[found.class_ids[i]]
        origin = x, max(y - 4, round(12 * scale))
        write(picture, f"{name} {found.scores[i]:.2f}", origin, color, 0.5 * scale)
    caption = f"{manifest.name}: {'+'.join(perception.modalities)}"
    if not manifest.trained:
        caption += "   UNTRAINED WEIGHTS"
    write(picture, caption, (round(8 * scale), round(24 * scale)), scale=0.7 * scale)
    depth = depth_colors(published_depth_m(perception, manifest.classes))
    return np.concatenate([picture, look_up(depth, view, camera, 0)])
