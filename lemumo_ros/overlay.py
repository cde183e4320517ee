"""A picture of what went in and what came out. Pure NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.frame import UNLABELLED, Frame, LidarScan, Perception
from lemumo_core.geometry import se3
from lemumo_core.geometry.boxes import box_corners, clip_edges
from lemumo_core.inference.package import Manifest

LABEL_WEIGHT = 0.35
MAX_DEPTH_M = 80.0
POINT_RADIUS_PX = 1
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(frame: Frame, perception: Perception, manifest: Manifest) -> np.ndarray:
    """Draw a result.

    Args:
        frame: the input; without an image the canvas is black.
        perception: what the model said of it.
        manifest: names and colours.

    Returns:
        uint8 (2 H, W, 3) RGB. Above: the image with label colours, LiDAR returns coloured by
        depth, boxes and a caption. Below: the dense depth, red near to blue far.
    """
    height, width = frame.camera.height, frame.camera.width
    picture = np.zeros((height, width, 3), np.uint8) if frame.image is None else frame.image.copy()
    _blend_labels(picture, perception, frame, manifest)
    if isinstance(frame.companion, LidarScan):
        _draw_points(picture, frame, frame.companion)
    _draw_boxes(picture, frame, perception, manifest)
    caption = f"{manifest.name}: {'+'.join(perception.modalities)}"
    if not manifest.trained:
        caption += "   UNTRAINED WEIGHTS"
    _write(picture, caption, (8, 24), (255, 255, 255))
    depth = _to_image(depth_colors(perception.depth_m), perception, frame, 0)
    return np.concatenate([picture, depth])


def depth_colors(depth_m: np.ndarray) -> np.ndarray:
    """Depth (...) in metres to uint8 (..., 3) RGB: red near, blue far, NaN black."""
    nearness = 1.0 - np.clip(np.nan_to_num(depth_m, nan=MAX_DEPTH_M) / MAX_DEPTH_M, 0.0, 1.0)
    # Square: most of a street is near, and would otherwise be one colour.
    index = np.rint(255 * nearness**2).astype(np.uint8)
    colors = cv2.applyColorMap(index.reshape(-1, 1), cv2.COLORMAP_TURBO)[:, 0, ::-1]
    colors = colors.reshape(*depth_m.shape, 3).copy()
    colors[np.isnan(depth_m)] = 0
    return colors


def class_colors(count: int) -> list[tuple[int, int, int]]:
    """Distinct RGB colours, evenly spaced in hue, one per detection class."""
    hues = np.linspace(0, 180, count, endpoint=False).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=1)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return [(int(r), int(g), int(b)) for r, g, b in rgb]


def _to_image(values: np.ndarray, perception: Perception, frame: Frame, fill: int) -> np.ndarray:
    """Resample a map of the model's output view to the source image, nearest neighbour."""
    view, camera = perception.output_camera, frame.camera
    sx, sy = view.fx / camera.fx, view.fy / camera.fy
    to_view = np.array(
        [[sx, 0, view.cx - sx * camera.cx], [0, sy, view.cy - sy * camera.cy]], np.float64
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    size = (camera.width, camera.height)
    return cv2.warpAffine(values, to_view, size, flags=flags, borderValue=(fill,) * 3)


def _blend_labels(
    picture: np.ndarray, perception: Perception, frame: Frame, manifest: Manifest
) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(manifest.palette)] = manifest.palette
    labels = _to_image(perception.labels, perception, frame, UNLABELLED)
    blended = cv2.addWeighted(picture, 1 - LABEL_WEIGHT, palette[labels], LABEL_WEIGHT, 0)
    known = labels != UNLABELLED
    picture[known] = blended[known]


def _draw_points(picture: np.ndarray, frame: Frame, scan: LidarScan) -> None:
    points = se3.transform(scan.T_camera_lidar, scan.points[:, :3])
    uv, valid = frame.camera.project(points)
    inside = valid & (uv >= 0).all(axis=1) & (uv < picture.shape[1::-1]).all(axis=1)
    order = np.flatnonzero(inside)
    order = order[np.argsort(-points[order, 2])]  # near ones on top
    pixels = uv[order].astype(int)
    colors = depth_colors(points[order, 2])
    for dv in range(-POINT_RADIUS_PX + 1, POINT_RADIUS_PX + 1):
        for du in range(-POINT_RADIUS_PX + 1, POINT_RADIUS_PX + 1):
            u = np.clip(pixels[:, 0] + du, 0, picture.shape[1] - 1)
            v = np.clip(pixels[:, 1] + dv, 0, picture.shape[0] - 1)
            picture[v, u] = colors


def _draw_boxes(
    picture: np.ndarray, frame: Frame, perception: Perception, manifest: Manifest
) -> None:
    found = perception.detections
    colors = class_colors(len(manifest.detection_classes))
    for i, corners in enumerate(box_corners(found.boxes_3d.astype(np.float64))):
        color = colors[found.class_ids[i]]
        segments = clip_edges(corners)
        uv, valid = frame.camera.project(segments.reshape(-1, 3))
        # Far outside, pixel coordinates would overflow OpenCV's fixed-point lines.
        uv = np.clip(uv, -1e4, 1e4).reshape(-1, 2, 2)
        for ends, visible in zip(uv, np.all(valid.reshape(-1, 2), axis=1).tolist(), strict=True):
            if visible:
                a, b = ((round(u), round(v)) for u, v in ends.tolist())
                cv2.line(picture, a, b, color, 2, cv2.LINE_AA)
        x, y = found.boxes_2d[i, :2]
        name = manifest.detection_classes[found.class_ids[i]]
        _write(picture, f"{name} {found.scores[i]:.2f}", (int(x), max(int(y) - 4, 12)), color, 0.5)


def _write(
    picture: np.ndarray,
    text: str,
    origin: tuple[int, int],
    color: tuple[int, int, int],
    scale: float = 0.7,
) -> None:
    (width, height), below = cv2.getTextSize(text, FONT, scale, 1)
    x, y = origin
    cv2.rectangle(picture, (x - 2, y - height - 2), (x + width + 2, y + below), (0, 0, 0), -1)
    cv2.putText(picture, text, origin, FONT, scale, color, 1, cv2.LINE_AA)
