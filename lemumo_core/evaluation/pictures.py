"""One picture of the predictions for a frame beside its ground truth."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.drawing import (
    GREY,
    WHITE,
    Color,
    birds_eye,
    blend_labels,
    class_colors,
    depth_colors,
    draw_boxes,
    draw_footprints,
    draw_rectangles,
    draw_returns,
    error_colors,
    write,
)
from lemumo_core.frame import (
    PUBLISHED_SCORE,
    UNLABELLED,
    Frame,
    Labels,
    LidarScan,
    Perception,
    RasterImage,
    ThermalImage,
)
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import look_up, look_up_depth
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.masked_returns import true_labels
from lemumo_core.metrics.objects import ObjectFilter, Objects
from lemumo_core.picture_projection import raster_in_view, thermal_in_view

TILE_WIDTH = 560
GAP_PX = 4
DENSE_SHARE = 0.25
"""Truth that covers less of the image is drawn as dots of two pixels."""
LABEL_WEIGHT = 0.6
NAME_SCALE = 0.4 / 1500
"""Size of the names in a picture, by its width: a page shows all pictures equally wide."""


def draw_comparison(frame: Frame, perception: Perception, manifest: Manifest) -> np.ndarray:
    """Draw a result beside the ground truth.

    Args:
        frame: with labels; what it lacks stays black.
        perception: the model's predictions for it.
        manifest: of the model.

    Returns:
        uint8 (H, W, 3) RGB. Left: the image with boxes, the depth and the labels as predicted.
        Middle: LiDAR returns or thermal image, named so where the model did not use them; the
        error of the depth; the labels. Right: bird's-eye view. Predicted boxes have the colours
        of their classes; true ones are white, those that do not count grey.
    """
    labels, camera, view = frame.labels or Labels(), frame.camera, perception.output_camera
    small = camera.scaled(TILE_WIDTH, max(1, round(camera.height * TILE_WIDTH / camera.width)))
    image = np.zeros((small.height, small.width, 3), np.uint8)
    if frame.image is not None:
        image[:] = cv2.resize(frame.image, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    predicted, actual = image.copy(), image.copy()
    predicted_ids = look_up(perception.labels, view, small, UNLABELLED)
    blend_labels(predicted, predicted_ids, manifest.palette, LABEL_WEIGHT)
    true_ids = true_labels(frame)
    if true_ids is not None:
        true_ids = _shrunk(true_ids, true_ids != UNLABELLED, UNLABELLED, camera, small)
        true_ids = manifest.classes.label_ids(true_ids, labels.label_names)
        blend_labels(actual, true_ids, manifest.palette, LABEL_WEIGHT)
    depth_m = look_up(perception.depth_m, view, small, np.nan)
    error_m = np.full_like(depth_m, np.nan)
    if labels.depth_m is not None:
        error_m = np.full(labels.depth_m.shape, np.nan, np.float32)
        found, shown = look_up_depth(perception.depth_m, view, camera, labels.depth_m > 0)
        error_m[shown] = np.abs(found - labels.depth_m[shown])
        error_m = _shrunk(error_m, np.isfinite(error_m), np.nan, camera, small)

    boxes, above = _boxes(image, frame, small, perception, manifest)
    left = {"boxes": boxes, "depth": depth_colors(depth_m), "labels": predicted}
    is_known = bool(np.isfinite(error_m).any())
    middle = {
        **_companion(image, frame, small, perception),
        "depth error, 0 (blue) to 5 m (yellow)" if is_known else "no true depth": (
            error_colors(error_m)
        ),
        "true labels" if true_ids is not None else "no true labels": actual,
    }
    scale = max(0.4, NAME_SCALE * (2 * TILE_WIDTH + above.shape[1]))
    return _joined([_column(left, scale), _column(middle, scale), above], axis=1)


def _boxes(
    image: np.ndarray, frame: Frame, small: Camera, perception: Perception, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray]:
    """Draw predicted and ground truth boxes, in the image and in bird's-eye view."""
    labels, found = frame.labels or Labels(), perception.detections
    scan = frame.companion if isinstance(frame.companion, LidarScan) else None
    picture, above = image.copy(), birds_eye(frame.camera, scan, 3 * len(image) + 2 * GAP_PX)
    shown = found.scores >= PUBLISHED_SCORE
    palette = class_colors(len(manifest.detection_classes))
    colors = [palette[i] for i in found.class_ids[shown]]
    flat = labels.boxes_3d is None and labels.boxes_2d is not None
    if flat or manifest.numbers_of_box == 4:
        scale = small.width / frame.camera.width
        true = np.empty((0, 4)) if labels.boxes_2d is None else labels.boxes_2d
        draw_rectangles(picture, true * scale, [WHITE] * len(true))
        draw_rectangles(picture, found.boxes_2d[shown] * scale, colors)
        return picture, above
    for boxes_3d, own in (_true_boxes(labels, manifest), (found.boxes_3d[shown], colors)):
        draw_boxes(picture, boxes_3d, small, own, 1)
        draw_footprints(above, boxes_3d, own, 1)
    return picture, above


def _true_boxes(labels: Labels, manifest: Manifest) -> tuple[np.ndarray, list[Color]]:
    if labels.boxes_3d is None:
        return np.empty((0, 7)), []
    objects = Objects.from_labels(labels, manifest.classes)
    depth_m = objects.boxes_3d[:, 2]
    counts = ObjectFilter().counts(depth_m, objects.visibility, objects.num_points)
    return objects.boxes_3d, [WHITE if one else GREY for one in counts]


def _companion(
    image: np.ndarray, frame: Frame, small: Camera, perception: Perception
) -> dict[str, np.ndarray]:
    """Draw what the companion measured, by its name, and whether the model saw it."""
    unseen = ", not used by the model" if perception.modalities == ("camera",) else ""
    if isinstance(frame.companion, LidarScan):
        picture = image.copy()
        draw_returns(picture, frame.companion, small)
        return {f"LiDAR{unseen}": picture}
    if isinstance(frame.companion, ThermalImage):
        intensity = thermal_in_view(frame.companion, small)[..., :1]
        return {f"thermal{unseen}": (255 * intensity).astype(np.uint8).repeat(3, axis=2)}
    if isinstance(frame.companion, RasterImage):
        band = raster_in_view(frame.companion, small)[..., :1]
        return {f"raster, first band{unseen}": (255 * band).astype(np.uint8).repeat(3, axis=2)}
    return {"no companion": np.zeros_like(image)}


def _shrunk(
    values: np.ndarray, known: np.ndarray, unknown: float, camera: Camera, small: Camera
) -> np.ndarray:
    """Scale a map of an image down to a smaller picture of it.

    Sparse values keep a size that can be seen, the largest on top.
    """
    if known.mean() >= DENSE_SHARE:
        return look_up(values, camera, small, unknown)
    row, column = np.nonzero(known)
    order = np.argsort(values[row, column], kind="stable")
    row, column = row[order], column[order]
    shrunk = np.full((small.height, small.width), unknown, values.dtype)
    v = ((row + 0.5) * small.height / camera.height).astype(int)
    u = ((column + 0.5) * small.width / camera.width).astype(int)
    for dv in (0, 1):
        for du in (0, 1):
            at = np.minimum(v + dv, small.height - 1), np.minimum(u + du, small.width - 1)
            shrunk[at] = values[row, column]
    return shrunk


def _column(tiles: dict[str, np.ndarray], scale: float) -> np.ndarray:
    """Stack pictures below each other, each with its name in letters of a scale."""
    for name, tile in tiles.items():
        write(tile, name, (6, round(40 * scale)), scale=scale)
    return _joined(list(tiles.values()), axis=0)


def _joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Join pictures side by side with a white gap."""
    parts = [pictures[0]]
    for picture in pictures[1:]:
        shape = list(picture.shape)
        shape[axis] = GAP_PX
        parts += [np.full(shape, 255, np.uint8), picture]
    return np.concatenate(parts, axis)
