"""Boxes for people to accept: what a model finds in a whole recording, made consistent over time.

A detector looks at one frame; a recording knows more. What is found again and again in one place
is there, in the frames between as well; a thing that stands still has one place, one size and one
heading; one that moves heads where it goes. Which of the two a track is, the LiDAR decides: into a
place that its object has left, the returns of later sweeps pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lemumo_core.data.sources import evenly_spaced
from lemumo_core.frame import LidarScan
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.inference.duplicates import distinct
from lemumo_core.label.lidar_evidence import lidar_evidence
from lemumo_core.label.object_tracks import ObjectTrack, SeenFrame, in_view, object_tracks
from lemumo_core.label.smoothing import smooth

ScanOf = Callable[[int], LidarScan | None]
"""Returns the sweep of a frame by its index in the source."""

LOOKS = 6
"""Frames of a track in which its two hypotheses are held against the sweep."""
LEAST_HITS, LEAST_RETURNS = 3, 5
"""Detections of a track, and returns in its place, below which nothing is decided."""
PRIOR_MISSES = 2
"""Frames without a detection that a confidence adds to those of the track: one is no proof."""
LEAST_SPEED_MPS = 0.8
DEVIATIONS = 1.0
"""A heading is that of the motion from this speed on, where it is so many deviations above 0."""
RELIABLE_M = 5.0
"""Distance below which sizes and headings of detections are taken for equally good."""


class Proposals(NamedTuple):
    """Boxes of one frame.

    Attributes:
        boxes_3d: float32 (K, 7) as in ``geometry.boxes``, camera optical frame.
        class_ids: int64 (K,) of the model.
        confidence: float32 (K,) in [0, 1], of the whole track.
        track_ids: int64 (K,), of the recording.
    """

    boxes_3d: np.ndarray
    class_ids: np.ndarray
    confidence: np.ndarray
    track_ids: np.ndarray


@dataclass(eq=False)
class _Path:
    """Where an object is from its first to its last detection.

    Attributes:
        frames: numbers of these frames, of which some may lack a detection.
        centers: float64 (M, 3), fixed frame.
        headings: float64 (M, 3), of length 1, fixed frame.
        size: float64 (3,).
        standing: float64 (3,), its place, if it stands still.
        heading: float64 (3,), that of the detections.
    """

    frames: np.ndarray
    centers: np.ndarray
    headings: np.ndarray
    size: np.ndarray
    standing: np.ndarray
    heading: np.ndarray

    def boxes(self, frames: Sequence[SeenFrame]) -> np.ndarray:
        """Return the boxes in the frames' cameras, float64 (M, 7)."""
        places = zip(self.frames.tolist(), self.centers, self.headings, strict=True)
        return np.array([self.box(frames[n], center, heading) for n, center, heading in places])

    def box(self, frame: SeenFrame, center: np.ndarray, heading: np.ndarray) -> np.ndarray:
        """Return the box of a place in a frame's camera, float64 (7,)."""
        T = inverse(frame.T_fixed_camera)
        ahead = T[:3, :3] @ heading
        return np.array(
            [*transform(T, center[None])[0], *self.size, np.arctan2(-ahead[2], ahead[0])]
        )


def propose(frames: Sequence[SeenFrame], scan_of: ScanOf, kind_of: np.ndarray) -> list[Proposals]:
    """Propose the boxes of a recording of one camera.

    Args:
        frames: in order of time.
        scan_of: gives the sweeps; without any, no object is known to stand.
        kind_of: kind of each class (``Taxonomy.kind_ids``).

    Returns:
        The proposals of each frame.
    """
    tracks = object_tracks(frames, kind_of)
    paths = [_path(track, frames) for track in tracks]
    for path, stands in zip(paths, _standing(paths, tracks, frames, scan_of), strict=True):
        if stands:
            path.centers[:], path.headings[:] = path.standing, path.heading
    rows: list[list[tuple[np.ndarray, int, float, int]]] = [[] for _ in frames]
    for number, (track, path) in enumerate(zip(tracks, paths, strict=True), start=1):
        shown = np.array(
            [in_view(c[None], frames[n])[0] for n, c in zip(path.frames, path.centers, strict=True)]
        )
        confidence = track.scores.sum() / (max(shown.sum(), len(track.scores)) + PRIOR_MISSES)
        class_id = int(np.bincount(track.class_ids, weights=track.scores).argmax())
        boxes = path.boxes(frames)
        for i in np.flatnonzero(shown).tolist():
            rows[path.frames[i]].append((boxes[i], class_id, float(confidence), number))
    return [_distinct(_joined(found), kind_of) for found in rows]


def _path(track: ObjectTrack, frames: Sequence[SeenFrame]) -> _Path:
    numbers = np.arange(track.frames[0], track.frames[-1] + 1)
    detected = track.frames - numbers[0]
    positions = np.full((len(numbers), 3), np.nan)
    noise = np.zeros((len(numbers), 3, 3))
    positions[detected], noise[detected] = track.positions, track.noise
    seconds = np.array([frames[n].stamp_ns - frames[numbers[0]].stamp_ns for n in numbers]) / 1e9
    means, covariances = smooth(seconds, positions, noise)
    weights = track.scores / (RELIABLE_M + track.boxes[:, 2].clip(0))
    information = np.linalg.inv(track.noise)
    heading = _mean_heading(track, frames, weights)
    speed = np.linalg.norm(means[:, 3:], axis=1)
    deviation = np.sqrt(np.trace(covariances[:, 3:, 3:], axis1=1, axis2=2))
    moves = (speed > LEAST_SPEED_MPS) & (speed > DEVIATIONS * deviation)
    headings = np.where(moves[:, None], means[:, 3:] / np.maximum(speed, 1e-9)[:, None], heading)
    return _Path(
        frames=numbers,
        centers=means[:, :3].copy(),
        headings=headings,
        size=np.average(track.boxes[:, 3:6], axis=0, weights=weights),
        standing=np.linalg.solve(
            information.sum(axis=0), (information @ track.positions[..., None]).sum(axis=0)[:, 0]
        ),
        heading=heading,
    )


def _mean_heading(
    track: ObjectTrack, frames: Sequence[SeenFrame], weights: np.ndarray
) -> np.ndarray:
    """Return the axis of most headings, in the direction of most: front and rear are mixed up."""
    poses = np.array([frames[n].T_fixed_camera[:3, :3] for n in track.frames])
    ahead = (poses @ box_rotation(track.boxes[:, 6])[..., :1])[..., 0]
    axis: np.ndarray = np.linalg.eigh((weights[:, None] * ahead).T @ ahead)[1][:, -1]
    return axis if (weights * (ahead @ axis)).sum() >= 0 else -axis


def _standing(
    paths: Sequence[_Path],
    tracks: Sequence[ObjectTrack],
    frames: Sequence[SeenFrame],
    scan_of: ScanOf,
) -> np.ndarray:
    """Return which objects stand still: bool, one a path.

    In some frames of a track two boxes are held against the sweep: one in the place that would be
    the object's if it stood, and one where it is if it moves.
    """
    looks: dict[int, list[tuple[int, int]]] = {}
    for which, (path, track) in enumerate(zip(paths, tracks, strict=True)):
        if len(track.scores) >= LEAST_HITS:
            for i in evenly_spaced(len(path.frames), LOOKS):
                looks.setdefault(int(path.frames[i]), []).append((which, i))
    counts = np.zeros((len(paths), 2, 2), np.int64)  # hypothesis; inside, through
    for number, seen in sorted(looks.items()):
        frame = frames[number]
        scan = scan_of(frame.index)
        if scan is None:
            continue
        boxes = [
            paths[which].box(frame, center, paths[which].headings[i])
            for which, i in seen
            for center in (paths[which].standing, paths[which].centers[i])
        ]
        inside, through = lidar_evidence(np.array(boxes), scan)
        found = np.stack([inside, through], axis=1).reshape(-1, 2, 2)
        np.add.at(counts, [which for which, _ in seen], found)
    solid = counts[..., 0] / np.maximum(counts.sum(axis=2), 1)
    stands: np.ndarray = (counts[:, 0, 0] >= LEAST_RETURNS) & (solid[:, 0] >= solid[:, 1])
    return stands


def _distinct(found: Proposals, kind_of: np.ndarray) -> Proposals:
    """Return the proposals without those that stand in the place of a more confident one."""
    kept = distinct(found.boxes_3d, found.confidence, kind_of[found.class_ids])
    return Proposals(*(part[kept] for part in found))


def _joined(rows: list[tuple[np.ndarray, int, float, int]]) -> Proposals:
    boxes, class_ids, confidence, tracks = zip(*rows, strict=True) if rows else ((),) * 4
    return Proposals(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array(class_ids, np.int64),
        np.array(confidence, np.float32),
        np.array(tracks, np.int64),
    )
