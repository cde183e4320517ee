"""The tracks of a replay: given in the order of the bag, and scored beside a trivial tracker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.frame import NO_TRACK, Perception, Tracks
from lemumo_core.geometry.se3 import transform
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.assignment import assign
from lemumo_core.metrics.tracking import TrackingMetric
from lemumo_core.metrics.true_tracks import TrueMotion, TrueTracks
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.streaming.tracks import TrackedCameras
from lemumo_core.taxonomy import Taxonomy

TRACKS = "tracking.npz"
"""File of a bag's tracking metrics."""
TRACKED, TRIVIAL = "tracked", "nearest in the last image"
LINK_M = 2.0
"""Farthest that the trivial tracker looks for an object of the last image."""


class BagTracks:
    """Tracks the objects of one bag, and scores the tracks where labels say which object is which.

    Scores are over the kinds of objects, as those of detections are, and of each camera alone.

    Args:
        manifest: manifest of the model.
        is_fixed: whether poses are in a frame that does not move, so that an object which several
            cameras see is one track; else each camera has tracks of its own.

    Raises:
        Fault, ImportError: as ``TrackedCameras``.
    """

    def __init__(self, manifest: Manifest, is_fixed: bool):
        self._tracked = TrackedCameras(manifest)
        self._classes, self._is_fixed = manifest.classes, is_fixed
        self._scores: dict[str, TrackScores] = {}

    def update(self, result: ImageResult) -> ImageResult:
        """Return the next result of the bag with its tracks."""
        perception, T_fixed_camera = result.perception, result.event.T_fixed_camera
        if perception is None or T_fixed_camera is None:
            return result
        camera = result.event.camera
        frame_name = "" if self._is_fixed else camera
        tracked = self._tracked.update(perception, T_fixed_camera, frame_name)
        if result.truth_tracks is not None:
            self.of(camera).add(result.truth_tracks, perception, tracked, T_fixed_camera)
        return replace(result, perception=tracked)

    def of(self, camera: str) -> TrackScores:
        """Return the scores of a camera, by its name."""
        return self._scores.setdefault(camera, TrackScores(self._classes))


class TrackScores:
    """Scores of the tracks of one camera.

    Args:
        classes: of the model.

    Attributes:
        metrics: by tracker, ``TRACKED`` and ``TRIVIAL``.
    """

    def __init__(self, classes: Taxonomy):
        self._previous = PreviousImage(classes)
        self._kind_of = classes.kind_ids
        self._motion = TrueMotion()
        self.metrics = {name: TrackingMetric(classes.kinds) for name in (TRACKED, TRIVIAL)}

    def add(
        self,
        labelled: TrueTracks,
        perception: Perception,
        tracked: Perception,
        T_fixed_camera: np.ndarray,
    ) -> None:
        """Score the tracks of one image.

        Args:
            labelled: its objects.
            perception: its result without tracks.
            tracked: the same with tracks.
            T_fixed_camera: as in ``Frame``.
        """
        truth = self._motion.add(labelled, T_fixed_camera, perception.stamp_ns)
        previous = self._previous.update(perception, T_fixed_camera)
        for name, one in ((TRACKED, tracked), (TRIVIAL, previous)):
            self._score(name, one, truth)

    def _score(self, name: str, perception: Perception, truth: TrueTracks) -> None:
        found, tracks = perception.detections, perception.tracks
        assert tracks is not None
        boxes, known = found.boxes_3d.copy(), tracks.ids != NO_TRACK
        boxes[known, :3] = tracks.centers[known]
        truth = replace(truth, class_ids=self._kind_of[truth.class_ids])
        kinds = self._kind_of[found.class_ids]
        self.metrics[name].add(boxes, found.scores, kinds, tracks, truth)


class PreviousImage:
    """A tracker to be measured against: each object is the nearest one of the last image.

    It knows no motion: all stand still.

    Args:
        classes: of the model.
    """

    def __init__(self, classes: Taxonomy):
        self._kind_of = classes.kind_ids
        self._places, self._kinds = np.zeros((0, 3)), np.zeros(0, np.int64)
        self._ids, self._next_id = np.zeros(0, np.int64), 1

    def update(self, perception: Perception, T_fixed_camera: np.ndarray) -> Perception:
        """Return the next result with its tracks."""
        found = perception.detections
        boxes = found.boxes_3d.astype(np.float64)
        places, kinds = transform(T_fixed_camera, boxes[:, :3]), self._kind_of[found.class_ids]
        distances = np.linalg.norm(places[:, None] - self._places[None], axis=2)
        near = (distances <= LINK_M) & (kinds[:, None] == self._kinds)
        rows, columns = assign(distances, near)
        ids = np.full(len(boxes), NO_TRACK)
        ids[rows] = self._ids[columns]
        new = np.flatnonzero(ids == NO_TRACK)
        ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        self._places, self._kinds, self._ids = places, kinds, ids
        count = len(ids)
        still = np.zeros((count, 3), np.float32)
        unknown = np.full((count, 6, 6), np.nan, np.float32)
        return replace(perception, tracks=Tracks(ids, boxes[:, :3], still, unknown))


def save_tracks(path: Path, metrics: dict[str, TrackingMetric]) -> None:
    """Write the tracking metrics of a bag as .npz."""
    arrays = {
        f"{name}/{key}": array
        for name, metric in metrics.items()
        for key, array in metric.state().items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]


def tracking_results(folders: Sequence[Path], classes: Taxonomy) -> dict[str, dict[str, Any]]:
    """Return the scores of all bags together by tracker; none where no bag has labelled tracks.

    Args:
        folders: folders of the bags' results.
        classes: of the model.
    """
    total = {name: TrackingMetric(classes.kinds) for name in (TRACKED, TRIVIAL)}
    for folder in folders:
        with np.load(folder / TRACKS, allow_pickle=False) as stored:
            for name, metric in total.items():
                part = TrackingMetric(metric.classes)
                part.restore({key: stored[f"{name}/{key}"] for key in part.state()})
                metric.merge(part)
    return {name: metric.result() for name, metric in total.items() if metric.frames}
