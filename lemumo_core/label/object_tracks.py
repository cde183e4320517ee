"""Tracks of objects over a whole recording: all detections of an object, from the first on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lemumo_core.frame import NO_TRACK, Detections
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.geometry.view_transfer import inside
from lemumo_core.streaming.tracker import Tracker
from lemumo_core.streaming.tracks import position_noise


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """What a model found in one frame.

    Attributes:
        index: of the frame in its source.
        stamp_ns: of the frame.
        T_fixed_camera: as in ``Frame``; the identity where it is not known.
        view: model of what the network saw of it (``Perception.output_camera``).
        detections: 3D boxes, also those of low scores.
    """

    index: int
    stamp_ns: int
    T_fixed_camera: np.ndarray
    view: Camera
    detections: Detections


@dataclass(frozen=True, eq=False)
class ObjectTrack:
    """One object over the frames of a recording.

    Attributes:
        frames: int64 (M,), rising, numbers of the frames in which it was detected.
        boxes: float64 (M, 7), as detected, each in its frame's camera.
        scores: float64 (M,).
        class_ids: int64 (M,), all of one kind.
        positions: float64 (M, 3), centres in the fixed frame.
        noise: float64 (M, 3, 3), covariances of the positions.
    """

    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    positions: np.ndarray
    noise: np.ndarray


def object_tracks(frames: Sequence[SeenFrame], kind_of: np.ndarray) -> list[ObjectTrack]:
    """Follow the objects of a recording of one camera with the node's own tracker.

    Args:
        frames: in order of time.
        kind_of: kind of each class (``Taxonomy.kind_ids``).
    """
    new_id = itertools.count()
    tracker = Tracker(lambda: next(new_id), confirmed_hits=1)
    rows: dict[int, list[tuple[int, int]]] = {}
    places, noises = [], []
    for number, frame in enumerate(frames):
        boxes, T = frame.detections.boxes_3d.astype(np.float64), frame.T_fixed_camera
        positions = transform(T, boxes[:, :3])
        noise = T[:3, :3] @ position_noise(boxes[:, :3]) @ T[:3, :3].T
        kinds = kind_of[frame.detections.class_ids]
        shown = partial(in_view, frame=frame)
        ids, _, _ = tracker.update(frame.stamp_ns, positions, noise, kinds, shown)
        assert (ids != NO_TRACK).all()
        for row, track in enumerate(ids.tolist()):
            rows.setdefault(track, []).append((number, row))
        places.append(positions)
        noises.append(noise)
    return [_track(frames, found, places, noises) for found in rows.values()]


def in_view(positions: np.ndarray, frame: SeenFrame) -> np.ndarray:
    """Return which positions (N, 3) in the fixed frame the network's view shows: bool (N,)."""
    uv, valid = frame.view.project(transform(inverse(frame.T_fixed_camera), positions))
    shown: np.ndarray = valid & inside(uv, frame.view)
    return shown


def _track(
    frames: Sequence[SeenFrame],
    found: list[tuple[int, int]],
    places: list[np.ndarray],
    noises: list[np.ndarray],
) -> ObjectTrack:
    every = [(frames[n].detections, i) for n, i in found]
    return ObjectTrack(
        frames=np.array([n for n, _ in found]),
        boxes=np.array([one.boxes_3d[i] for one, i in every], np.float64),
        scores=np.array([one.scores[i] for one, i in every], np.float64),
        class_ids=np.array([one.class_ids[i] for one, i in every]),
        positions=np.array([places[n][i] for n, i in found]),
        noise=np.array([noises[n][i] for n, i in found]),
    )
