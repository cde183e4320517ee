"""Pictures of frames and results, uint8 RGB. Pure NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import UNLABELLED, LidarScan, is_return
from lemumo_core.geometry.boxes import box_corners, clip_edges
from lemumo_core.geometry.camera import Camera

Color = tuple[int, int, int]

MAX_DEPTH_M = 80.0
Z_MIN_M = 1.0
DEPTH_COLORS = "red near, blue far, nearly black from 80 m on"
"""Meaning of the colours of ``depth_colors``, for captions."""
MAX_ERROR_M = 5.0
LABEL_WEIGHT = 0.35
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, GREY, DARK = (255, 255, 255), (110, 110, 110), (40, 40, 40)
FOOTPRINT = [0, 2, 6, 4]
"""Corners of ``box_corners`` around the ground: front left, front right, rear right, rear left."""
ACROSS_M = 60.0
RING_M = 20.0
SWEEP_REACH_M, SWEEP_PX = 40.0, 480
"""A picture of a sweep reaches so far from the sensor, and has so many pixels a side."""
SUBPIXEL_BITS = 4
TURBO, PLASMA = (
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], name)[:, 0, ::-1]
    for name in (cv2.COLORMAP_TURBO, cv2.COLORMAP_PLASMA)
)
JPEG_QUALITY = 90
"""Pictures that are looked at are written with this quality, 1 to 100."""


def depth_colors(depth_m: np.ndarray) -> np.ndarray:
    """Colour depth (...) in metres, uint8 (..., 3): red near, blue far, NaN black."""
    nearness = 1.0 - np.clip(np.nan_to_num(depth_m, nan=MAX_DEPTH_M) / MAX_DEPTH_M, 0.0, 1.0)
    # Square: most of a street is near, and would otherwise be one colour.
    return _colored(nearness**2, TURBO, np.isnan(depth_m))


def error_colors(error_m: np.ndarray) -> np.ndarray:
    """Colour absolute errors (...) in metres, uint8 (..., 3).

    Dark blue is 0, yellow 5 m and more, black NaN.
    """
    share = np.clip(np.nan_to_num(error_m) / MAX_ERROR_M, 0.0, 1.0)
    return _colored(share, PLASMA, np.isnan(error_m))


def class_colors(count: int) -> list[Color]:
    """Return distinct colours, evenly spaced in hue, one per detection class."""
    if not count:
        return []
    hues = np.linspace(0, 180, count, endpoint=False).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=1)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return [(int(r), int(g), int(b)) for r, g, b in rgb]


def label_colors(label_map: np.ndarray, palette: Iterable[Color]) -> np.ndarray:
    """Colour label ids (...), uint8 (..., 3); ids without a colour are black."""
    return np.asarray(_color_table(palette)[label_map])


def blend_labels(
    picture: np.ndarray,
    label_map: np.ndarray,
    palette: Iterable[Color],
    weight: float = LABEL_WEIGHT,
) -> None:
    """Tint a picture (H, W, 3), in place, by uint8 label ids (H, W); 255 leaves it as it is."""
    colors = cv2.LUT(cv2.merge([label_map] * 3), _color_table(palette)[None])
    blended = cv2.addWeighted(picture, 1 - weight, colors, weight, 0)
    cv2.copyTo(blended, (label_map != UNLABELLED).view(np.uint8), picture)


def draw_returns(picture: np.ndarray, scan: LidarScan, camera: Camera, side_px: int = 2) -> None:
    """Draw LiDAR returns into the picture of a camera, in place.

    They are ``side_px`` pixels a side, coloured by depth, near ones on top.
    """
    seen = project_returns(scan.points, scan.T_camera_lidar, camera, Z_MIN_M)
    order = np.argsort(-seen.depth_m)
    colors = depth_colors(seen.depth_m[order])
    u, v = (np.floor(at[order]).astype(int) for at in (seen.u, seen.v))
    for dv in range(side_px):
        for du in range(side_px):
            row = np.clip(v + dv, 0, camera.height - 1)
            picture[row, np.clip(u + du, 0, camera.width - 1)] = colors


def draw_boxes(
    picture: np.ndarray,
    boxes_3d: np.ndarray,
    camera: Camera,
    colors: Sequence[Color],
    thickness: int = 2,
) -> None:
    """Draw the edges of boxes (K, 7) into the picture of a camera, in place.

    Args:
        picture: uint8 (H, W, 3).
        boxes_3d: (K, 7) as in ``geometry.boxes``, camera optical frame.
        camera: of the picture's size.
        colors: one per box.
        thickness: pixels.
    """
    for corners, color in zip(box_corners(boxes_3d.astype(np.float64)), colors, strict=True):
        segments = clip_edges(corners)
        uv, valid = camera.project(segments.reshape(-1, 3))
        # Far outside, pixel coordinates would overflow OpenCV's fixed-point lines.
        uv = np.clip(uv, -1e4, 1e4).reshape(-1, 2, 2)
        for start, end in uv[valid.reshape(-1, 2).all(axis=1)].round().astype(int).tolist():
            cv2.line(picture, start, end, color, thickness, cv2.LINE_AA)


def draw_rectangles(
    picture: np.ndarray, boxes_2d: np.ndarray, colors: Sequence[Color], thickness: int = 1
) -> None:
    """Draw 2D boxes (K, 4) x_min, y_min, x_max, y_max, pixels of the picture, in place."""
    for (x1, y1, x2, y2), color in zip(boxes_2d.round().astype(int), colors, strict=True):
        start, end = (int(x1), int(y1)), (int(x2), int(y2))
        cv2.rectangle(picture, start, end, color, thickness)


def birds_eye(camera: Camera, scan: LidarScan | None, height: int) -> np.ndarray:
    """Make an empty bird's-eye view for ``draw_footprints``: 80 m ahead, 30 m to either side.

    Returns:
        (height, 3/4 height, 3): the camera at the bottom, the borders of its image, a ring every
        20 m, and LiDAR returns in grey.
    """
    picture = np.zeros((height, round(height * ACROSS_M / MAX_DEPTH_M), 3), np.uint8)
    if scan is not None:
        xyz = scan.points[:, :3] @ scan.T_camera_lidar[:3, :3].T + scan.T_camera_lidar[:3, 3]
        column, row = np.nan_to_num(_on_ground(xyz[:, [0, 2]], picture), nan=-1.0).T.astype(int)
        seen = (column >= 0) & (column < picture.shape[1]) & (row >= 0) & (row < height)
        picture[row[seen], column[seen]] = GREY
    for radius_m in np.arange(RING_M, MAX_DEPTH_M + 1, RING_M):
        angle = np.linspace(0, np.pi, 73)
        _polyline(picture, radius_m * np.stack([np.cos(angle), np.sin(angle)], 1), DARK, False)
        x, y = _on_ground(np.array([[0.0, radius_m]]), picture)[0]
        scale = max(0.35, height / 1500)
        below = int(x) + 2, int(y + 34 * scale)
        cv2.putText(picture, f"{radius_m:g} m", below, FONT, scale, GREY, 1, cv2.LINE_AA)
    borders = camera.unproject(np.array([[0, camera.cy], [camera.width - 1, camera.cy]]))
    for ray in borders[np.isfinite(borders).all(axis=1)]:
        _polyline(picture, np.stack([np.zeros(2), MAX_DEPTH_M * ray[[0, 2]]]), DARK, False)
    return picture


def draw_footprints(
    picture: np.ndarray, boxes_3d: np.ndarray, colors: Sequence[Color], thickness: int = 2
) -> None:
    """Draw boxes (K, 7) into a ``birds_eye`` picture, in place, with a line to where they head."""
    for box, corners, color in zip(
        boxes_3d, box_corners(boxes_3d.astype(np.float64)), colors, strict=True
    ):
        ground = corners[FOOTPRINT][:, [0, 2]]
        _polyline(picture, ground, color, True, thickness)
        _polyline(picture, np.stack([box[[0, 2]], ground[:2].mean(0)]), color, False, thickness)


def sweep_from_above(
    points: np.ndarray, colors: np.ndarray, reach_m: float = SWEEP_REACH_M, size: int = SWEEP_PX
) -> np.ndarray:
    """Draw a sweep in colours around its sensor: x of the LiDAR's frame is up, y to the left.

    Args:
        points: (N, >= 3) x, y, z, metres; rows that are not finite are left out.
        colors: uint8 (N, 3). Of points in one pixel the highest is seen.
        reach_m: from the sensor to the borders.
        size: pixels a side.

    Returns:
        uint8 (size, size, 3), with a ring every 20 m.
    """
    picture = np.zeros((size, size, 3), np.uint8)
    scale = size / (2 * reach_m)
    for radius_m in np.arange(RING_M, reach_m + 1, RING_M):
        center = (size // 2, size // 2)
        cv2.circle(picture, center, round(radius_m * scale), DARK, 1, cv2.LINE_AA)
    known = is_return(points) & (np.abs(points[:, :2]) < reach_m).all(axis=1)
    order = np.flatnonzero(known)[np.argsort(points[known, 2], kind="stable")]
    rows, columns = (np.floor((reach_m - points[order, i]) * scale).astype(int) for i in (0, 1))
    rows, columns = np.minimum(rows, size - 1), np.minimum(columns, size - 1)
    picture[rows, columns] = colors[order]
    return picture


def write(
    picture: np.ndarray,
    text: str,
    origin: tuple[int, int],
    color: Color = WHITE,
    scale: float = 0.7,
) -> None:
    """Write a line on black into a picture, in place; ``origin`` is its lower left corner."""
    (width, height), below = cv2.getTextSize(text, FONT, scale, 1)
    x, y = origin
    cv2.rectangle(picture, (x - 2, y - height - 2), (x + width + 2, y + below), (0, 0, 0), -1)
    cv2.putText(picture, text, origin, FONT, scale, color, 1, cv2.LINE_AA)


def _color_table(palette: Iterable[Color]) -> np.ndarray:
    """Return the colours of all ids, uint8 (256, 3)."""
    colors, known = np.zeros((256, 3), np.uint8), list(palette)
    colors[: len(known)] = known
    return colors


def _colored(share: np.ndarray, table: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Look up shares (...) in [0, 1] in a table (256, 3): (..., 3), black where unknown."""
    colors = table[np.rint(255 * share).astype(np.uint8)]
    colors[unknown] = 0
    return np.asarray(colors)


def _on_ground(xz: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Map positions (N, 2) x, z, metres, to pixels (N, 2) of a ``birds_eye`` picture."""
    scale = len(picture) / MAX_DEPTH_M
    return np.stack([xz[:, 0] * scale + picture.shape[1] / 2, len(picture) - xz[:, 1] * scale], 1)


def _polyline(
    picture: np.ndarray, xz: np.ndarray, color: Color, closed: bool, thickness: int = 1
) -> None:
    pixels = np.clip(_on_ground(xz, picture), -1e4, 1e4)
    pixels = (pixels * 2**SUBPIXEL_BITS).round().astype(np.int32)
    cv2.polylines(picture, [pixels], closed, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
