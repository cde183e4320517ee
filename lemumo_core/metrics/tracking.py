"""Tracks against true tracks, as nuScenes evaluates them (nuscenes.org/tracking).

MOTA is that of CLEAR MOT (``mot_events``) at the score where it is best. AMOTA and AMOTP are means
over recalls of an accuracy that is normalised by the recall, and of the distance of matches (Weng
et al., arXiv 1907.03961).

Unlike nuScenes, which completes tracks over frames without a box, an object is expected only in
frames in which it counts: a camera knows nothing of what is hidden from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from lemumo_core.frame import NO_TRACK, Tracks
from lemumo_core.metrics.detection import GROUND
from lemumo_core.metrics.matching import match
from lemumo_core.metrics.mot_events import MotEvents, TrackFrame, count_events
from lemumo_core.metrics.objects import ObjectFilter
from lemumo_core.metrics.perception import json_ready
from lemumo_core.metrics.true_tracks import TrueTracks

MATCH_M = 2.0
"""Farthest that a track may be from its object, in bird's-eye view."""
RECALLS = np.linspace(0.1, 1.0, 40).round(12)
"""Recalls over which AMOTA and AMOTP are means."""
WORST_MOTAR, WORST_MOTP_M = 0.0, 2.0
"""What counts at a recall that is not reached."""


@dataclass(frozen=True)
class TrackingScores:
    """Scores of one class, or means over classes and sums.

    Those after ``amotp_m`` are at the score threshold with the highest MOTA. What nothing was
    found for is NaN.

    Attributes:
        objects: true boxes, over all frames.
        amota: in [0, 1].
        amotp_m: metres.
        mota: in [0, 1].
        motp_m: mean distance of matches in bird's-eye view.
        recall: share of the objects that were matched.
        id_switches: matches of an object by another track than the one that matched it before.
        false_positives: boxes of tracks that match no object.
        misses: objects that no track matches.
        velocity_error_mps: mean length of the error of velocities of what is within ``MATCH_M``
            of an object, whatever the score.
        speed_mps: mean speed of these objects, which is the error of a velocity of 0.
    """

    objects: int
    amota: float
    amotp_m: float
    mota: float
    motp_m: float
    recall: float
    id_switches: float
    false_positives: float
    misses: float
    velocity_error_mps: float
    speed_mps: float


SUMS = ("objects", "id_switches", "false_positives", "misses")
"""Scores that are summed over classes; the others are averaged."""


class TrackingMetric:
    """Accumulates tracks over frames, which come in the order of their recording.

    Tracks are matched to objects of their class within ``MATCH_M``, in bird's-eye view. Those that
    match only an object that does not count, or lie out of range themselves, count neither way.

    Args:
        classes: names by id.
        counted: which objects count.

    Attributes:
        frames: number of frames that were added.
    """

    def __init__(self, classes: Sequence[str], counted: ObjectFilter | None = None):
        self.classes, self._counted = tuple(classes), counted or ObjectFilter()
        self._truth = np.zeros((0, 6))  # sequence, frame, id, class, x, z
        self._found = np.zeros((0, 7))  # likewise, and the score
        self._velocities = np.zeros((0, 3))  # class, error and true speed, m/s
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._ids: dict[str, int] = {}
        self._sequences = self.frames = 0

    def begin_sequence(self) -> None:
        """Begin another recording, whose ids have nothing to do with those before."""
        self._sequences += 1
        self._ids = {}

    def add(
        self,
        boxes_3d: np.ndarray,
        scores: np.ndarray,
        class_ids: np.ndarray,
        tracks: Tracks,
        truth: TrueTracks,
    ) -> None:
        """Add the next frame.

        Args:
            boxes_3d: (K, 7) as in ``geometry.boxes``, camera optical frame.
            scores: (K,).
            class_ids: int (K,) into ``classes``.
            tracks: of the same detections; those without a track are left out.
            truth: of the same frame.
        """
        boxes, at = np.asarray(boxes_3d, np.float64), (self._sequences, self.frames)
        self.frames += 1
        order = np.flatnonzero(tracks.ids != NO_TRACK)
        order = order[np.argsort(-scores[order], kind="stable")]
        distances = _distances(boxes[order][:, GROUND], truth.centers[:, GROUND])
        allowed = (distances < MATCH_M) & (class_ids[order][:, None] == truth.class_ids)
        of = match(distances, allowed, truth.counts)
        counts = (boxes[order, 2] > 0) & (boxes[order, 2] <= self._counted.max_depth_m)
        counts[of >= 0] = truth.counts[of[of >= 0]]
        matched = counts & (of >= 0)
        of, rows = of[matched], order[matched]
        error = np.linalg.norm(tracks.velocities[rows] - truth.velocities[of], axis=1)
        speed = np.linalg.norm(truth.velocities[of], axis=1)
        known = np.isfinite(error)
        velocities = np.column_stack([class_ids[rows], error, speed])[known]

        kept, real = np.sort(order[counts]), truth.counts
        numbers = np.array([self._ids.setdefault(name, len(self._ids)) for name in truth.ids], int)
        true = _rows(at, numbers[real], truth.class_ids[real], truth.centers[real][:, GROUND])
        found = _rows(at, tracks.ids[kept], class_ids[kept], boxes[kept][:, GROUND])
        self._new.append((true, np.column_stack([found, scores[kept]]), velocities))

    def merge(self, other: TrackingMetric) -> None:
        """Add the frames of another metric as recordings of their own.

        Raises:
            ValueError: its classes differ.
        """
        if other.classes != self.classes:
            raise ValueError(f"tracks of {other.classes} are not those of {self.classes}")
        self.begin_sequence()
        state = other.state()
        shift = np.array([self._sequences, self.frames])
        for name in ("truth", "found"):
            state[name] = state[name].copy()
            state[name][:, :2] += shift
        self._new.append((state["truth"], state["found"], state["velocities"]))
        self._sequences += other._sequences
        self.frames += other.frames
        self.begin_sequence()

    def state(self) -> dict[str, np.ndarray]:
        """Return everything gathered as plain arrays."""
        self._gather()
        counts = np.array([self._sequences, self.frames])
        return {
            "counts": counts,
            "truth": self._truth,
            "found": self._found,
            "velocities": self._velocities,
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` returned; the next frame is that of another recording."""
        self._sequences, self.frames = state["counts"].tolist()
        self._truth, self._found = state["truth"], state["found"]
        self._velocities, self._new = state["velocities"], []
        self.begin_sequence()

    def scores(self) -> dict[str, TrackingScores]:
        """Return the scores of each class that has objects, by name."""
        self._gather()
        found = self._found.copy()
        found[:, 6] = _track_scores(found)
        scores = {}
        for class_id, name in enumerate(self.classes):
            true, ours = self._truth[self._truth[:, 3] == class_id], found[found[:, 3] == class_id]
            if len(true):
                _, error, speed = self._velocities[self._velocities[:, 0] == class_id].T
                scores[name] = _class_scores(_frames(true, ours), _mean(error), _mean(speed))
        return scores

    def result(self) -> dict[str, Any]:
        """Return the scores over all classes and by ``classes``, ready for JSON: NaN is None."""
        by_class = {name: asdict(one) for name, one in self.scores().items()}
        total: dict[str, Any] = {"frames": self.frames}
        for field in fields(TrackingScores):
            values = [one[field.name] for one in by_class.values()]
            known = [value for value in values if not np.isnan(value)]
            total[field.name] = sum(known) if field.name in SUMS else _mean(known)
        ready: dict[str, Any] = json_ready({**total, "classes": by_class})
        return ready

    def _gather(self) -> None:
        if self._new:
            truth, found, velocities = zip(*self._new, strict=True)
            self._truth = np.concatenate([self._truth, *truth])
            self._found = np.concatenate([self._found, *found])
            self._velocities = np.concatenate([self._velocities, *velocities])
            self._new = []


def _class_scores(
    frames: list[TrackFrame], velocity_error_mps: float, speed_mps: float
) -> TrackingScores:
    """Return the scores of one class, as nuScenes computes them from thresholds of the score."""
    matched = count_events(frames)
    achieved = [events for events in _by_recall(frames, matched) if events is not None]
    unreached = len(RECALLS) - len(achieved)
    motar = [0.0 if np.isnan(e.motar) else e.motar for e in achieved]
    motp_m = [WORST_MOTP_M if np.isnan(e.motp_m) else e.motp_m for e in achieved]
    amota = (sum(motar) + unreached * WORST_MOTAR) / len(RECALLS)
    amotp_m = (sum(motp_m) + unreached * WORST_MOTP_M) / len(RECALLS)
    best = max(achieved, key=lambda events: events.mota, default=None)
    nothing = float("nan")
    return TrackingScores(
        objects=matched.objects,
        amota=amota,
        amotp_m=amotp_m,
        mota=best.mota if best else 0.0,
        motp_m=best.motp_m if best else WORST_MOTP_M,
        recall=best.recall if best else 0.0,
        id_switches=best.switches if best else nothing,
        false_positives=best.false_positives if best else nothing,
        misses=best.misses if best else matched.objects,
        velocity_error_mps=velocity_error_mps,
        speed_mps=speed_mps,
    )


def _by_recall(frames: list[TrackFrame], matched: MotEvents) -> list[MotEvents | None]:
    """Return the events at the score of each recall, highest first; None where it is not reached.

    The recall at a score is taken from the matches of all tracks: fewer tracks may match others.
    """
    scores = np.sort(matched.match_scores)[::-1]
    if not len(scores):
        return [None] * len(RECALLS)
    recalls = np.arange(1, len(scores) + 1) / matched.objects
    thresholds = np.interp(RECALLS, recalls, scores, right=0.0)
    events = {least: count_events(frames, least) for least in np.unique(thresholds)}
    reached = recalls[-1] >= RECALLS
    return [
        events[least] if is_reached else None
        for least, is_reached in zip(thresholds[::-1], reached[::-1], strict=True)
    ]


def _frames(true: np.ndarray, found: np.ndarray) -> list[TrackFrame]:
    """Return the frames of rows of one class that have any."""
    frames = []
    for number in np.unique(np.concatenate([true[:, 1], found[:, 1]])):
        ours, theirs = (rows[rows[:, 1] == number] for rows in (true, found))
        distances = _distances(ours[:, 4:6], theirs[:, 4:6])
        distances[distances >= MATCH_M] = np.nan
        sequence = int((ours if len(ours) else theirs)[0, 0])
        ids = ours[:, 2].astype(np.int64), theirs[:, 2].astype(np.int64)
        frames.append(TrackFrame(sequence, *ids, theirs[:, 6], distances))
    return frames


def _track_scores(found: np.ndarray) -> np.ndarray:
    """Return for each row the mean score of its track."""
    _, track = np.unique(found[:, [0, 2]], axis=0, return_inverse=True)
    track = track.reshape(-1)  # NumPy 2.0 gives it another shape
    return (np.bincount(track, found[:, 6]) / np.maximum(np.bincount(track), 1))[track]


def _rows(
    at: tuple[int, int], ids: np.ndarray, class_ids: np.ndarray, places: np.ndarray
) -> np.ndarray:
    count = len(ids)
    return np.column_stack([np.tile(at, (count, 1)), ids, class_ids, places]).astype(np.float64)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distances of places (N, 2) and (M, 2): (N, M)."""
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
