"""Extrinsic drift between LiDAR and camera over many frames, with an interval, or no verdict.

The evidence is whole scenes: frames whose depth edges hardly differ are one, and scenes are
resampled (Efron's bootstrap, by Student's t for few), so that one wall seen a hundred times is one
observation. The turn is found over all edges. Near edges and far ones ask for the same turn unless
the LiDAR is shifted, which moves a point by the inverse of its depth: so a shift is separated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.calibration import REACH_DEG, ROLL_DEG, ROTATIONS_DEG, TILT_DEG, Alignment
from lemumo_core.wording import signed

OFF_DEG = 0.4
"""The extrinsics are off where the whole interval of the angle lies above."""
ALIGNED_DEG = 0.7
"""They are aligned where it lies below."""
WIDEST_DEG = 1.5
"""Wider intervals say nothing: those of sensors that do not fit span 1.8 degrees and more."""

MIN_SCENES = 5
MIN_SCENE_EDGES = 10
"""A scene of fewer edges counts for nothing."""
MIN_EDGES = 150
MIN_PROMINENCE = 4.0
"""Standard deviations by which the best turn stands out among all: between sensors that have
nothing to do with each other it is at most 3.8, between those that fit it begins at 4.4."""
SHIFT_M = 0.05
"""A shift is needed where its whole interval is larger."""
HALVES_DEG = 1.0
"""How far apart the two halves of the scenes may be."""

SAME_SCENE = 0.5
"""Share of edges found in both of two frames from which they show one scene."""
SAME_DEG, SAME_RATIO = 0.4, 0.1
"""An edge is found again within this angle, and this share of its depth."""

RESAMPLES = 300
BIAS_DEG = np.array([0.1, 0.05, 0.1])
BIAS_M = np.array([0.02, 0.08])
"""Standard deviations of the errors that more scenes do not average out (texture of objects, roofs
seen from two heights): of the turn by axis, and of the shift to the right and down."""
SHAPE = len(TILT_DEG), len(TILT_DEG), len(ROLL_DEG)
STEP_DEG = np.array([steps[1] - steps[0] for steps in (TILT_DEG, TILT_DEG, ROLL_DEG)])
T_975 = np.array([12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 1.96])
"""Student's t at 97.5 %, of 1 to 10 degrees of freedom and of many."""

Verdict = Literal["aligned", "off", "undecided"]


@dataclass(frozen=True)
class Drift:
    """Estimated drift of the extrinsics over some frames. Intervals hold 95 %.

    Of too few scenes or edges nothing is estimated: angles are 0, and intervals NaN.

    Attributes:
        verdict: ``undecided`` where the evidence does not do, for the ``reason``.
        reason: of ``undecided``, else empty.
        edges: depth edges it rests on, of one frame a scene.
        scenes: how many different ones.
        frames: how many.
        angle_deg: size of the turn that fits best, over all edges.
        angle_interval_deg: its interval.
        rotation_deg: pitch, yaw and roll (about camera x, y, z) that ``T_camera_lidar`` needs to
            be turned by, from the left, to fit the images.
        rotation_interval_deg: their intervals.
        shift_m: what it needs to be shifted by besides, along camera x and y; 0 where no shift
            is needed. ``rotation_deg`` is what then remains.
        shift_interval_m: the intervals, also of shifts that are not needed.
        depth_m: median depth of the nearer half of the edges, and of the farther.
    """

    verdict: Verdict
    reason: str
    edges: int
    scenes: int
    frames: int
    angle_deg: float = 0.0
    angle_interval_deg: Sequence[float] = (np.nan,) * 2
    rotation_deg: Sequence[float] = (0.0,) * 3
    rotation_interval_deg: Sequence[Sequence[float]] = ((np.nan,) * 2,) * 3
    shift_m: Sequence[float] = (0.0,) * 2
    shift_interval_m: Sequence[Sequence[float]] = ((np.nan,) * 2,) * 2
    depth_m: Sequence[float] = (np.nan,) * 2

    @property
    def correction(self) -> np.ndarray:
        """Transform by which ``T_camera_lidar`` is to be multiplied from the left, (4, 4)."""
        return correction_of(self.rotation_deg, self.shift_m)


def correction_of(rotation_deg: Sequence[float], shift_m: Sequence[float]) -> np.ndarray:
    """Return float64 (4, 4) of a turn about x, y and z (3,) and a shift along x and y (2,)."""
    R, _ = cv2.Rodrigues(np.deg2rad(np.asarray(rotation_deg, np.float64)))
    return make_T(R, np.array([*shift_m, 0.0]))


def drift(alignments: Sequence[Alignment]) -> Drift:
    """Estimate the turn, and where one is needed the shift, that fits all frames best."""
    scenes = _scenes(alignments)
    edges = int(sum(np.mean([len(one.edges) for one in scene]) for scene in scenes))
    basis = edges, len(scenes), len(alignments)
    reason = _lacking(*basis)
    if reason:
        return Drift("undecided", reason, *basis)
    scores = np.stack([np.mean([one.scores for one in scene], axis=0) for scene in scenes])
    inverse_depth = np.mean([one.inverse_depth for scene in scenes for one in scene], axis=0)
    turns, shifts = _resampled(scores - scores.mean(axis=2, keepdims=True), inverse_depth)

    factor = np.sqrt(len(scenes) / (len(scenes) - 1)) * T_975[min(len(scenes), 11) - 2] / T_975[-1]
    rng = np.random.default_rng(0)
    rotations = turns[0] + factor * (turns[1:] - turns[0])
    rotations += rng.normal(0, BIAS_DEG, rotations.shape)
    low, high = _interval(np.linalg.norm(rotations, axis=1)[:, None])[0].tolist()
    spread = shifts[0] + factor * (shifts[1:] - shifts[0])
    shift_interval = _interval(spread + rng.normal(0, BIAS_M, spread.shape))
    needed = (shift_interval[:, 0] > SHIFT_M) | (shift_interval[:, 1] < -SHIFT_M)
    shift = np.where(needed, shifts[0], 0.0)
    reason = _vague(scores, turns[0]) or _between(low, high, shift)
    by_shift = _turn_like(shift, inverse_depth.mean())
    rotation_interval = _interval(rotations) - by_shift[:, None]
    return Drift(
        "undecided" if reason else "off" if low > OFF_DEG else "aligned",
        reason,
        *basis,
        *(float(np.linalg.norm(turns[0])), (low, high)),
        *((turns[0] - by_shift).tolist(), rotation_interval.tolist()),
        *(shift.tolist(), shift_interval.tolist()),
        (1.0 / inverse_depth).tolist(),
    )


def _scenes(alignments: Sequence[Alignment]) -> list[list[Alignment]]:
    """Return the frames of each scene that has enough edges."""
    scenes: dict[int, list[Alignment]] = {}
    for one, number in zip(alignments, scene_numbers(alignments), strict=True):
        scenes.setdefault(number, []).append(one)
    return [
        scene
        for scene in scenes.values()
        if np.mean([len(one.edges) for one in scene]) >= MIN_SCENE_EDGES
    ]


def _resampled(scores: np.ndarray, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate turn and shift over all scenes, and over ``RESAMPLES`` resamples of them.

    Args:
        scores: (S, 2, G) by scene, of near and far edges.
        inverse_depth: (2,) of both.

    Returns:
        Rotations (1 + RESAMPLES, 3), degrees, as if there were no shift; shifts (.., 2), metres.
    """
    count = len(scores)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), draws]).astype(np.float32)
    near, far = (weights @ scores[:, part] for part in (0, 1))
    differs = np.deg2rad(best_rotations(near) - best_rotations(far))
    per_m = _turn_like(np.ones(2), inverse_depth[0] - inverse_depth[1])
    shifts = differs[:, [1, 0]] / np.deg2rad(per_m[[1, 0]])
    return best_rotations(near + far), shifts


def _turn_like(shift_m: np.ndarray, inverse_depth: float) -> np.ndarray:
    """Return the rotation (3,), degrees, that moves points as a shift (2,) along x and y does."""
    x, y = np.rad2deg(shift_m * inverse_depth)
    return np.array([-y, x, 0.0])


def scene_numbers(alignments: Sequence[Alignment]) -> list[int]:
    """Return the number of the scene that each frame shows, 0, 1, ... as they come.

    A frame is of an earlier scene if it shows most depth edges of that scene's first frame.
    """
    firsts: list[np.ndarray] = []
    numbers = []
    for one in alignments:
        shared = [_shared(one.edges, first) for first in firsts]
        if shared and max(shared) > SAME_SCENE:
            numbers.append(int(np.argmax(shared)))
        else:
            numbers.append(len(firsts))
            firsts.append(one.edges)
    return numbers


def best_rotations(scores: np.ndarray) -> np.ndarray:
    """Return the rotations (B, 3), degrees, at the highest of scores (B, G).

    A parabola along each axis refines them between the steps of the grid.
    """
    index = scores.argmax(axis=1)
    at = np.stack(np.unravel_index(index, SHAPE), axis=1)
    peaks = ROTATIONS_DEG[index].copy()
    rows, best = np.arange(len(scores)), scores.max(axis=1)
    for axis, stride in enumerate((SHAPE[1] * SHAPE[2], SHAPE[2], 1)):
        inner = (at[:, axis] > 0) & (at[:, axis] < SHAPE[axis] - 1)
        reach = np.where(inner, stride, 0)
        below, above = scores[rows, index - reach], scores[rows, index + reach]
        curvature = 2 * best - below - above
        offset = np.where(curvature > 0, (above - below) / np.maximum(2 * curvature, 1e-12), 0)
        peaks[:, axis] += STEP_DEG[axis] * offset
    return peaks


def _shared(edges: np.ndarray, others: np.ndarray) -> float:
    """Return the larger share of the edges (N, 3) of two frames that the other has too."""
    if not len(edges) or not len(others):
        return float(len(edges) == len(others))
    apart = np.abs(edges[:, None, :2] - others[None, :, :2]).max(axis=2)
    ratio = np.abs(np.log(edges[:, None, 2] / others[None, :, 2]))
    same = (apart < SAME_DEG) & (ratio < SAME_RATIO)
    return float(max(same.any(axis=1).mean(), same.any(axis=0).mean()))


def _interval(values: np.ndarray) -> np.ndarray:
    """Return the central 95 % of the columns of (B, K): (K, 2)."""
    return np.percentile(values, (2.5, 97.5), axis=0).T


def _lacking(edges: int, scenes: int, frames: int) -> str:
    if scenes < MIN_SCENES:
        return (
            f"{frames} frames show {scenes} different scenes with depth edges, and {MIN_SCENES} "
            "are needed: record while driving past cars, poles and walls"
        )
    if edges < MIN_EDGES:
        return f"{edges} depth edges are in view, and {MIN_EDGES} are needed"
    return ""


def _vague(scores: np.ndarray, turn: np.ndarray) -> str:
    """Return why scores (S, 2, G) by scene support no turn at all, or an empty text."""
    if (np.abs(turn) > REACH_DEG - STEP_DEG).any():
        return (
            f"no turn up to {REACH_DEG:g} degrees fits: the extrinsics are off by more, the "
            "stamps of the sensors differ, or there is nothing to compare"
        )
    total = scores.sum(axis=(0, 1))
    if total.max() - total.mean() < MIN_PROMINENCE * total.std():
        return "depth edges meet image edges under no turn much better than under others"
    parts = np.array_split(scores, 2)
    halves = best_rotations(np.stack([part.sum(axis=(0, 1)) for part in parts]))
    if np.linalg.norm(halves[0] - halves[1]) > HALVES_DEG:
        first, second = (", ".join(signed(angle, ".2f") for angle in half) for half in halves)
        return (
            f"the halves of the bag disagree: pitch, yaw and roll of ({first}) and of ({second}) "
            "degrees fit best"
        )
    return ""


def _between(low: float, high: float, shift: np.ndarray) -> str:
    is_off, is_aligned = low > OFF_DEG, high < ALIGNED_DEG
    if high - low > WIDEST_DEG or not (is_off or is_aligned):
        return f"may be off by {low:.1f} to {high:.1f} degrees: more scenes narrow this down"
    if shift.any() and not is_off:
        right, down = (signed(metres, ".2f") for metres in shift)
        return (
            "near and far edges ask for different turns, as of a LiDAR that needs to be shifted by "
            f"{right} m to the right and {down} m down: measure its position"
        )
    return ""
