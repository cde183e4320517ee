"""How well LiDAR and camera fit in one frame, under small turns of the LiDAR.

Where depth jumps, images have edges (Levinson and Thrun, "Automatic Online Calibration of Cameras
and Lasers", RSS 2013). The jumps of a scan are looked up in the gradient of the image under small
rotations of the LiDAR about the camera. ``calibration_drift`` finds what many frames say together.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np

from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.metrics.depth_edges import DepthEdges, depth_edges

REACH_DEG = 3.0
TILT_DEG = np.linspace(-REACH_DEG, REACH_DEG, 31)
ROLL_DEG = np.linspace(-REACH_DEG, REACH_DEG, 17)
ROTATIONS_DEG = np.array(list(itertools.product(TILT_DEG, TILT_DEG, ROLL_DEG)))
"""Every rotation that is tried, (G, 3): about the camera's x (pitch), y (yaw) and z (roll)."""

PIXELS_PER_DEG = 10.0
"""Larger images are reduced to this: a beam is no sharper."""
MAX_EDGES = 600
"""Edges a frame, of either kind."""
CHUNK = 8
"""Edges looked up at once: few enough for the cache."""
LEVEL_WEIGHT = 0.5
"""Weight of edges along columns: beams are farther apart there."""
BLUR_DEG, SURROUND_DEG = 0.15, 2.5
CLIP_PERCENTILE = 98


class Alignment(NamedTuple):
    """How much image gradient the depth edges of one frame meet, by rotation.

    scores: float32 (2, G), of near edges and of far ones, by rotation of ``ROTATIONS_DEG``.
    inverse_depth: (2,), median of both, 1/m. edges: float32 (N, 3), azimuth and elevation
    from the camera, degrees, and depth, metres, by which frames are compared.
    """

    scores: np.ndarray
    inverse_depth: np.ndarray
    edges: np.ndarray


def align(frame: Frame) -> Alignment | None:
    """Compare the depth edges of a frame with its image; return None without image or LiDAR."""
    scan = frame.companion
    if frame.image is None or not isinstance(scan, LidarScan):
        return None
    image, camera = _reduced(frame.image, frame.camera)
    edges = _sound(depth_edges(scan, camera), camera)
    rays = camera.unproject(edges.uv)
    gradients = _gradients(image, camera)
    is_far = edges.depth_m > np.median(edges.depth_m) if len(rays) else np.zeros(0, bool)
    scores = np.zeros((2, len(ROTATIONS_DEG)), np.float32)
    inverse_depth = np.zeros(2)
    turns = np.deg2rad(ROTATIONS_DEG.T).astype(np.float32)
    moves = _pixels_per_radian(rays, camera).astype(np.float32)
    # Padded so that no turn leaves the image.
    pad = 1 + int(np.abs(moves).sum(axis=2).max(initial=0.0) * np.deg2rad(REACH_DEG))
    start = edges.uv.astype(np.float32) + (pad + 0.5)
    for part in (0, 1):
        for gradient, upright in zip(gradients, (True, False), strict=True):
            padded = np.pad(gradient, pad, mode="edge")
            ours = np.flatnonzero((is_far == part) & (edges.upright == upright))
            weight = edges.weight[ours].astype(np.float32)
            for i in range(0, len(ours), CHUNK):
                some = ours[i : i + CHUNK]
                u, v = (start[some, k, None] + moves[some, k] @ turns for k in (0, 1))
                pixel = v.astype(np.int32)
                pixel *= padded.shape[1]
                pixel += u.astype(np.int32)
                scores[part] += weight[i : i + CHUNK] @ padded.ravel()[pixel]
        ours = is_far == part
        if ours.any():
            inverse_depth[part] = 1.0 / np.median(edges.depth_m[ours])
    angles = np.rad2deg(np.arctan(rays[:, :2]))
    described = np.concatenate([angles, edges.depth_m[:, None]], axis=1).astype(np.float32)
    return Alignment(scores, inverse_depth, described)


def _reduced(image: np.ndarray, camera: Camera) -> tuple[np.ndarray, Camera]:
    """Return image and camera at ``PIXELS_PER_DEG`` at most."""
    height, width = image.shape[:2]
    scale = min(1.0, PIXELS_PER_DEG / (np.deg2rad(1.0) * camera.fx * width / camera.width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), camera.scaled(*size)


def _sound(edges: DepthEdges, camera: Camera) -> DepthEdges:
    """Return at most ``MAX_EDGES`` edges of either kind, with a ray each."""
    keep = np.isfinite(camera.unproject(edges.uv)).all(axis=1)
    kept = []
    for upright in (True, False):
        ours = np.flatnonzero(keep & (edges.upright == upright))
        kept.append(ours[:: max(1, -(-len(ours) // MAX_EDGES))])
    edges = DepthEdges(*(part[np.concatenate(kept)] for part in edges))
    return edges._replace(weight=edges.weight * np.where(edges.upright, 1.0, LEVEL_WEIGHT))


def _gradients(image: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of the gradient along x and along y, float32 (H, W) each.

    It is relative to that around it, so that a bush does not outweigh the outline of a car.
    """
    gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    pixels_per_degree = camera.fx * np.deg2rad(1.0)
    found = []
    for dx, dy in ((1, 0), (0, 1)):
        size = np.abs(cv2.Sobel(gray, cv2.CV_32F, dx, dy))
        size = np.sqrt(np.minimum(size, np.percentile(size, CLIP_PERCENTILE)))
        side = max(1, round(2 * SURROUND_DEG * pixels_per_degree))
        surround = cv2.blur(size, (side, side))
        size = size / (surround + 0.1 * size.max() + 1e-6)
        found.append(cv2.GaussianBlur(size, (0, 0), BLUR_DEG * pixels_per_degree))
    return found[0], found[1]


def _pixels_per_radian(rays: np.ndarray, camera: Camera) -> np.ndarray:
    """Return how far pixels move by small rotations of their rays (N, 3): (N, 2, 3)."""
    small = 1e-3
    moves = []
    for axis in range(3):
        turn = np.zeros(3)
        turn[axis] = small
        ahead, _ = camera.project(rays + np.cross(turn, rays))
        behind, _ = camera.project(rays - np.cross(turn, rays))
        moves.append((ahead - behind) / (2 * small))
    return np.nan_to_num(np.stack(moves, axis=-1))
