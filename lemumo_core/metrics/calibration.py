"""Extrinsic drift between LiDAR and camera in recorded data, without labels or targets.

Where depth jumps, images have edges (Levinson and Thrun, "Automatic Online Calibration of Cameras
and Lasers", RSS 2013). The jumps of a scan are looked up in the gradient of the image under small
rotations of the LiDAR about the camera; the rotation with most gradient is the one that drifted.
Translations of centimetres move far points by less than a pixel and are not looked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera

WARN_DEG = 0.5
STEPS_DEG = np.linspace(-2.0, 2.0, 17)
ROTATIONS_DEG = np.array(list(itertools.product(STEPS_DEG, repeat=3)))
"""Every rotation that is tried, (G, 3): about the camera's x (pitch), y (yaw) and z (roll)."""
CENTER = len(ROTATIONS_DEG) // 2

Z_MIN_M = 1.0
CELL_DEG = 0.2
REACH = 4
"""Cells within which a return has its neighbours: 0.8 degree."""
JUMP_RATIO, JUMP_M = 0.08, 0.3
"""How much farther than the surface a neighbour lies behind an edge, both."""
MAX_WEIGHT = 0.3
MAX_EDGES = 1200
MIN_EDGES = 150
BLUR_DEG, SURROUND_DEG = 0.25, 2.5
CLIP_PERCENTILE = 98
BLOCKS = 12
"""Columns of the image that are resampled for the confidence."""
RESAMPLES = 200
CONFIDENCE = 0.7

Verdict = Literal["aligned", "drifted", "undecided"]


class Alignment(NamedTuple):
    """How much image gradient the depth edges of one frame meet, by block and rotation.

    scores: float32 (BLOCKS, G), by rotation of ``ROTATIONS_DEG``. edges: their number.
    """

    scores: np.ndarray
    edges: int


@dataclass(frozen=True)
class Drift:
    """Estimated drift of the extrinsics over some frames.

    Attributes:
        rotation_deg: pitch, yaw and roll (about camera x, y, z) that ``T_camera_lidar`` needs to
            be turned by, from the left, to fit the images.
        angle_deg: its size.
        confidence: share of the resampled estimates on the verdict's side of ``WARN_DEG``.
        edges: depth edges it rests on.
        verdict: ``undecided`` where there are too few edges, or the resamples do not agree.
    """

    rotation_deg: tuple[float, float, float]
    angle_deg: float
    confidence: float
    edges: int
    verdict: Verdict


def align(frame: Frame) -> Alignment | None:
    """Compare the depth edges of a frame with its image; return None without image or LiDAR."""
    scan, camera = frame.companion, frame.camera
    if frame.image is None or not isinstance(scan, LidarScan):
        return None
    scores = np.zeros((BLOCKS, len(ROTATIONS_DEG)), np.float32)
    edges, turns = 0, np.deg2rad(ROTATIONS_DEG.T).astype(np.float32)
    gradients = _gradients(frame.image, camera)
    for gradient, (uv, weight) in zip(gradients, _depth_edges(scan, camera), strict=True):
        rays = camera.unproject(uv)
        sound = np.isfinite(rays).all(axis=1)
        uv, rays, weight = uv[sound], rays[sound], weight[sound]
        edges += len(uv)
        block = np.clip(uv[:, 0] / camera.width * BLOCKS, 0, BLOCKS - 1).astype(int)
        moves = _pixels_per_radian(rays, camera).astype(np.float32) @ turns
        for one in range(BLOCKS):
            ours = block == one
            u, v = (uv[ours].T[:, :, None] + moves[ours].transpose(1, 0, 2)).astype(np.float32)
            column = np.clip(u + 0.5, 0, camera.width - 1).astype(np.int32)
            row = np.clip(v + 0.5, 0, camera.height - 1).astype(np.int32)
            scores[one] += weight[ours] @ gradient.ravel()[row * camera.width + column]
    return Alignment(scores, edges)


def drift(alignments: Sequence[Alignment]) -> Drift:
    """Estimate the rotation that fits all frames best, and the confidence in it.

    Confidence is that of a bootstrap over the blocks of all frames.
    """
    edges = sum(one.edges for one in alignments)
    if edges < MIN_EDGES:
        return Drift((0.0, 0.0, 0.0), 0.0, 0.0, edges, "undecided")
    scores = np.concatenate([one.scores for one in alignments])
    scores = scores[scores[:, CENTER] > 0]
    draws = np.random.default_rng(0).multinomial(
        len(scores), np.full(len(scores), 1 / len(scores)), RESAMPLES
    )
    best = _peaks(np.concatenate([scores.sum(0)[None], draws.astype(np.float32) @ scores]))
    angles = np.linalg.norm(best, axis=1)
    beyond = float((angles[1:] > WARN_DEG).mean())
    confidence = beyond if angles[0] > WARN_DEG else 1.0 - beyond
    verdict: Verdict = "undecided"
    if confidence >= CONFIDENCE:
        verdict = "drifted" if angles[0] > WARN_DEG else "aligned"
    pitch, yaw, roll = best[0].tolist()
    return Drift((pitch, yaw, roll), float(angles[0]), confidence, edges, verdict)


def _peaks(scores: np.ndarray) -> np.ndarray:
    """Return the rotations (B, 3), degrees, at the highest of scores (B, G).

    A parabola along each axis refines them between the steps of the grid.
    """
    steps, step = len(STEPS_DEG), STEPS_DEG[1] - STEPS_DEG[0]
    index = scores.argmax(axis=1)
    at = np.stack(np.unravel_index(index, (steps, steps, steps)), axis=1)
    peaks = STEPS_DEG[at]
    rows, best = np.arange(len(scores)), scores.max(axis=1)
    for axis, stride in enumerate((steps * steps, steps, 1)):
        inner = (at[:, axis] > 0) & (at[:, axis] < steps - 1)
        reach = np.where(inner, stride, 0)
        below, above = scores[rows, index - reach], scores[rows, index + reach]
        curvature = 2 * best - below - above
        offset = np.where(curvature > 0, (above - below) / np.maximum(2 * curvature, 1e-12), 0)
        peaks[:, axis] += step * offset
    return np.asarray(peaks)


def _gradients(image: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of the gradient along x and along y, float32 (H, W) each.

    It is relative to that around it, so that a bush does not outweigh the outline of a car.
    """
    gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    pixels_per_degree = camera.fx * np.deg2rad(1.0)
    found = []
    for dx, dy in ((1, 0), (0, 1)):
        size = np.abs(cv2.Sobel(gray, cv2.CV_32F, dx, dy))
        size = np.minimum(size, np.percentile(size, CLIP_PERCENTILE))
        side = round(2 * SURROUND_DEG * pixels_per_degree)
        surround = cv2.blur(size, (side, side))
        size = size / (surround + 0.1 * size.max() + 1e-6)
        found.append(cv2.GaussianBlur(size, (0, 0), BLUR_DEG * pixels_per_degree))
    return found[0], found[1]


def _depth_edges(scan: LidarScan, camera: Camera) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find where depth jumps along rows, and along columns upwards.

    Below an object lies ground at its own depth, so jumps downwards are no edges. Returns pixels
    float32 (N, 2) and weights (N,) of both directions.

    An edge lies half way between the last return of the near surface and the first of the far.
    Inverse depth is linear on planes, so the surface is continued by its slope: the ground is no
    edge, however flat the beam.
    """
    seen = project_returns(scan.points, scan.T_camera_lidar, camera, Z_MIN_M)
    uv, inverse = np.stack([seen.u, seen.v], axis=1), 1.0 / seen.depth_m.astype(np.float64)
    cell_px = max(1.0, camera.fx * np.deg2rad(CELL_DEG))
    columns, rows = int(camera.width / cell_px) + 1, int(camera.height / cell_px) + 1
    cell = ((seen.v + 0.5) // cell_px * columns + (seen.u + 0.5) // cell_px).astype(np.intp)
    nearest = np.full(rows * columns, -1)
    last_wins = np.argsort(-seen.depth_m, kind="stable")
    nearest[cell[last_wins]] = last_wins
    grid = nearest.reshape(rows, columns)
    found = []
    for axis, lines in ((0, (grid, grid[:, ::-1])), (1, (grid.T[:, ::-1],))):
        pixels, weights = [], []
        for line in lines:
            before, after = _next(line[:, ::-1])[:, ::-1], _next(line)
            whole = (line >= 0) & (before >= 0) & (after >= 0)
            a, b, p = line[whole], after[whole], before[whole]
            run = (uv[a] - uv[p])[:, axis]
            slope = np.where(np.abs(run) < 0.5, 0.0, (inverse[a] - inverse[p]))
            continued = inverse[a] + slope / np.where(run == 0, 1.0, run) * (uv[b] - uv[a])[:, axis]
            surface = np.clip(continued, 1e-4, inverse[a])
            ratio = surface / inverse[b] - 1.0
            jumps = (ratio > JUMP_RATIO) & (1.0 / inverse[b] - 1.0 / surface > JUMP_M)
            pixels.append((uv[a[jumps]] + uv[b[jumps]]) / 2)
            weights.append(np.minimum(ratio[jumps], MAX_WEIGHT))
        uv_edges, weight = np.concatenate(pixels), np.concatenate(weights).astype(np.float32)
        every = max(1, -(-2 * len(uv_edges) // MAX_EDGES))
        found.append((uv_edges[::every], weight[::every]))
    return found


def _next(line: np.ndarray) -> np.ndarray:
    """Return, for each cell of rows (R, C), the value of the nearest filled one to its right.

    It is -1 where none is within ``REACH``.
    """
    found = np.full_like(line, -1)
    for step in range(min(REACH, line.shape[1] - 1), 0, -1):
        shifted = line[:, step:]
        found[:, :-step] = np.where(shifted >= 0, shifted, found[:, :-step])
    return found


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
