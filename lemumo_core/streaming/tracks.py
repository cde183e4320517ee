"""Give the detections of a result the ids and motion of their tracks, in node and replay alike."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import NO_TRACK, Perception, Tracks
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.geometry.view_transfer import inside
from lemumo_core.inference.manifest import Manifest
from lemumo_core.metrics.assignment import solver
from lemumo_core.streaming.tracker import Tracker

BOX_NUMBERS = 7
"""Numbers of a box in space."""
ACROSS_M, ACROSS_PER_M = 0.2, 0.005
ALONG_M, ALONG_PER_M = 0.3, 0.02
"""Standard deviations of a detected centre across and along the line of sight: at the camera, and
what each metre of distance adds."""


class TrackedCameras:
    """The tracks of all cameras, which share the ids.

    An object that two cameras see is one track, where the poses of both are known in one frame
    of reference. In one that does not move velocities are those over ground; in any other they
    are relative to it.

    Args:
        manifest: manifest of the model.

    Raises:
        Fault, ImportError: as ``set_model``.
    """

    def __init__(self, manifest: Manifest):
        self._ids = itertools.count(1)
        self.set_model(manifest)

    def set_model(self, manifest: Manifest) -> None:
        """Begin with the detections of another model; ids go on.

        Raises:
            Fault: ``no_boxes_3d`` for a model that detects in 2D.
            ImportError: SciPy is not installed; the message says how.
        """
        solver()
        if manifest.numbers_of_box != BOX_NUMBERS:
            raise Fault(
                "no_boxes_3d",
                f"{manifest.name} detects boxes in the image, and tracks are of boxes in space: "
                "turn tracking off, or take a model with 3D boxes",
            )
        self._kind_of = manifest.classes.kind_ids
        self._trackers: dict[str, Tracker] = {}

    def update(
        self, perception: Perception, T_fixed_camera: np.ndarray, frame_name: str
    ) -> Perception:
        """Return a result with its tracks.

        Results come in the order in which they are published. Detections that are not finite have
        no track.

        Args:
            perception: the result.
            T_fixed_camera: as in ``Frame``.
            frame_name: name of the frame of reference; results of one name share their tracks.
        """
        found = perception.detections
        count, boxes = len(found.scores), found.boxes_3d.astype(np.float64)
        usable = np.flatnonzero(np.isfinite(boxes).all(axis=1))
        ids = np.full(count, NO_TRACK)
        velocities = np.full((count, 3), np.nan, np.float32)
        covariances = np.full((count, 6, 6), np.nan, np.float32)
        centers = np.full((count, 3), np.nan, np.float32)
        measured = boxes[usable, :3]
        R, T_camera_fixed = T_fixed_camera[:3, :3], inverse(T_fixed_camera)
        camera = perception.output_camera

        def in_view(positions: np.ndarray) -> np.ndarray:
            uv, valid = camera.project(transform(T_camera_fixed, positions))
            return valid & inside(uv, camera)

        if frame_name not in self._trackers:
            self._trackers[frame_name] = Tracker(lambda: next(self._ids))
        found_ids, means, states = self._trackers[frame_name].update(
            perception.stamp_ns,
            transform(T_fixed_camera, measured),
            R @ position_noise(measured) @ R.T,
            self._kind_of[found.class_ids[usable]],
            in_view,
        )
        known = found_ids != NO_TRACK
        rows = usable[known]
        ids[rows] = found_ids[known]
        centers[rows] = transform(T_camera_fixed, means[known, :3])
        velocities[rows] = means[known, 3:] @ R
        turn = np.kron(np.eye(2), R.T)
        covariances[rows] = turn @ states[known] @ turn.T
        return replace(perception, tracks=Tracks(ids, centers, velocities, covariances))


def position_noise(centers: np.ndarray) -> np.ndarray:
    """Return covariances (K, 3, 3) of detected centres (K, 3), in the camera's frame, metres.

    Depth is less certain than direction, and both less the farther an object is.
    """
    distance_m = np.linalg.norm(centers, axis=1)
    ray = centers / np.maximum(distance_m, 1e-6)[:, None]
    across = np.square(ACROSS_M + ACROSS_PER_M * distance_m)[:, None, None]
    along = np.square(ALONG_M + ALONG_PER_M * distance_m)[:, None, None]
    return across * np.eye(3) + (along - across) * ray[:, :, None] * ray[:, None]
