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


def draw_overlay(frame: Frame, perception: Perception, manifest: Manifest) -> np.ndarray:
    """Draw a result over its input.

    Args:
        frame: input; without an image the canvas is black.
        perception: result of the model.
        manifest: manifest of the model, for class names and colours.

    Returns:
        Picture, uint8 (2 H, W, 3) RGB. Above: the image with label colours, LiDAR returns coloured
        by depth, boxes and a caption. Below: the dense depth, red near to blue far.
    """
    camera, view, found = frame.camera, perception.output_camera, perception.detections
    size = camera.width, camera.height
    picture = np.zeros((*size[::-1], 3), np.uint8)
    if frame.image is not None:
        cv2.resize(frame.image, size, picture)  # a copy, where it is not a reduced one
    labels = look_up(perception.labels, view, camera, UNLABELLED)
    blend_labels(picture, labels, manifest.palette)
    if isinstance(frame.companion, LidarScan):
        draw_returns(picture, frame.companion, camera)
    palette = class_colors(len(manifest.detection_classes))
    colors = [palette[class_id] for class_id in found.class_ids]
    if manifest.numbers_of_box == 7:
        draw_boxes(picture, found.boxes_3d, camera, colors)
    else:
        draw_rectangles(picture, found.boxes_2d, colors, 2)
    for i, color in enumerate(colors):
        x, y = (int(at) for at in found.boxes_2d[i, :2])
        name = manifest.detection_classes[found.class_ids[i]]
        write(picture, f"{name} {found.scores[i]:.2f}", (x, max(y - 4, 12)), color, 0.5)
    caption = f"{manifest.name}: {'+'.join(perception.modalities)}"
    if not manifest.trained:
        caption += "   UNTRAINED WEIGHTS"
    write(picture, caption, (8, 24))
    return np.concatenate([picture, look_up(depth_colors(perception.depth_m), view, camera, 0)])
