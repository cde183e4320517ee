"""The labelled objects of frames, with names that hold over frames, and their velocities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.frame import Frame
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform
from lemumo_core.geometry.view_transfer import inside
from lemumo_core.metrics.objects import ObjectFilter, Objects
from lemumo_core.taxonomy import Taxonomy

LONGEST_STEP_S = 1.0
"""Time over which an object is taken to have moved evenly."""


@dataclass(frozen=True, eq=False)
class TrueTracks:
    """The labelled objects of one frame.

    Attributes:
        ids: G names.
        class_ids: int (G,) into the classes of the metric.
        centers: float64 (G, 3), metres, camera optical frame.
        counts: bool (G,), objects that a tracker is expected to follow in this frame.
        velocities: float64 (G, 3), as in ``Tracks``; NaN where they are not known.
    """

    ids: tuple[str, ...]
    class_ids: np.ndarray
    centers: np.ndarray
    counts: np.ndarray
    velocities: np.ndarray


def true_tracks(
    frame: Frame, view: Camera, classes: Taxonomy, counted: ObjectFilter | None = None
) -> TrueTracks | None:
    """Return the objects of a frame whose labels say which object each is; None of any other.

    Objects count as for detections, and where they have a name.

    Args:
        frame: with labels.
        view: what the result of the model shows (``Perception.output_camera``).
        classes: of the model; objects of other classes are left out.
        counted: which objects count, where they are in view.
    """
    labels = frame.labels
    if labels is None or labels.boxes_3d is None or not labels.track_ids:
        return None
    objects = Objects.from_labels(labels, classes)
    known = classes.detection_ids(labels.class_names) >= 0
    ids = tuple(name for name, is_known in zip(labels.track_ids, known, strict=True) if is_known)
    centers = objects.boxes_3d[:, :3].astype(np.float64)
    counts = (counted or ObjectFilter()).counts(
        centers[:, 2], objects.visibility, objects.num_points
    )
    for camera in (frame.camera, view):
        counts = counts & inside(camera.project(centers)[0], camera)
    counts = counts & np.array([bool(name) for name in ids], bool)
    return TrueTracks(ids, objects.class_ids, centers, counts, np.full(centers.shape, np.nan))


class TrueMotion:
    """Velocities of labelled objects, by where they were in the frame before."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, np.ndarray]] = {}

    def add(self, truth: TrueTracks, T_fixed_camera: np.ndarray, stamp_ns: int) -> TrueTracks:
        """Return the objects of the next frame with their velocities.

        Args:
            truth: of the frame.
            T_fixed_camera: as in ``Frame``.
            stamp_ns: its time.
        """
        velocities = np.full(truth.centers.shape, np.nan)
        places = transform(T_fixed_camera, truth.centers)
        for i, (name, place) in enumerate(zip(truth.ids, places, strict=True)):
            if name in self._places:
                before_ns, before = self._places[name]
                seconds = (stamp_ns - before_ns) / 1e9
                if 0 < seconds <= LONGEST_STEP_S:
                    velocities[i] = (place - before) / seconds @ T_fixed_camera[:3, :3]
            self._places[name] = stamp_ns, place
        return replace(truth, velocities=velocities)
