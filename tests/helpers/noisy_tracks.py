"""A detector made of the truth: boxes with noise, dropped ones and false ones, to be tracked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lemumo_core.frame import Detections, Frame, Labels, Perception
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.geometry.view_transfer import inside
from lemumo_core.metrics.true_tracks import true_tracks
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.replay.image_events import ImageEvent
from lemumo_core.replay.tracks import BagTracks
from lemumo_core.taxonomy import DETECTION_CLASSES, Taxonomy
from lemumo_core.world.labels import boxes_in_camera
from lemumo_core.world.street import Drive

CAMERA = Camera(704, 256, 400.0, 400.0, 351.5, 127.5)
T_EGO_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.2, 0.0, 1.6]))
"""Pose of a camera that looks ahead, in the body frame (x forward, y left, z up)."""
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Noise:
    """How the detector errs.

    Attributes:
        across_m: standard deviation of centres across the line of sight.
        along: that along it, as a share of the distance.
        dropped: share of the objects that are not detected in a frame.
        false: mean number of false boxes in a frame.
    """

    across_m: float = 0.15
    along: float = 0.015
    dropped: float = 0.15
    false: float = 0.5


def detected(frame: Frame, noise: Noise, rng: np.random.Generator) -> Perception:
    """Return what such a detector says of a labelled frame."""
    labels = frame.labels
    assert labels is not None and labels.boxes_3d is not None
    ids = Taxonomy().detection_ids(labels.class_names)
    seen = ids >= 0
    if labels.visibility is not None:
        seen &= labels.visibility >= 0.1
    seen &= rng.random(len(ids)) >= noise.dropped
    boxes, class_ids = labels.boxes_3d[seen].astype(np.float64), ids[seen]
    rays = boxes[:, :3] / np.linalg.norm(boxes[:, :3], axis=1, keepdims=True)
    far_m = np.linalg.norm(boxes[:, :3], axis=1)
    boxes[:, :3] += rng.normal(0, noise.across_m, (len(boxes), 3))
    boxes[:, :3] += rays * (rng.normal(0, noise.along, len(boxes)) * far_m)[:, None]
    count = rng.poisson(noise.false)
    false = np.zeros((count, 7))
    depth_m = rng.uniform(5, 60, count)
    false[:, :3] = np.column_stack([rng.uniform(-0.8, 0.8, count), np.zeros(count), np.ones(count)])
    false[:, :3] *= depth_m[:, None]
    false[:, 3:6] = 2.0
    boxes = np.concatenate([boxes, false]).astype(np.float32)
    scores = np.concatenate([rng.uniform(0.5, 1, len(class_ids)), rng.uniform(0.3, 0.6, count)])
    class_ids = np.concatenate([class_ids, rng.integers(0, len(DETECTION_CLASSES), count)])
    return perception(frame, boxes, scores.astype(np.float32), class_ids)


def perception(
    frame: Frame, boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray
) -> Perception:
    """Return a result with these detections, and with maps of a pixel."""
    nothing = np.zeros((1, 1), np.float32)
    found = Detections(boxes, image_bounds(boxes, frame.camera), scores, class_ids)
    return Perception(
        *(frame.stamp_ns, frame.camera_name, found, nothing, nothing, nothing.astype(np.uint8)),
        *(frame.camera, ("camera",)),
    )


def street(
    stamps_ns: np.ndarray, seed: int = 0, T_ego_camera: np.ndarray = T_EGO_CAMERA
) -> Iterator[Frame]:
    """Yield the labels, without images, of a camera on a drive along the street.

    What stands in front of an object does not hide it.

    Args:
        stamps_ns: when, since the drive began.
        seed: of the drive.
        T_ego_camera: of the camera.
    """
    drive = Drive(seed, "test")
    for stamp_ns in stamps_ns.tolist():
        scene = drive.scene(stamp_ns / 1e9)
        T_world_camera = drive.T_world_ego(stamp_ns / 1e9) @ T_ego_camera
        boxes = boxes_in_camera(scene.boxes, T_world_camera)
        seen = inside(CAMERA.project(boxes[:, :3])[0], CAMERA) & (boxes[:, 2] < 70)
        labels = Labels(
            boxes_3d=boxes[seen].astype(np.float32),
            class_names=tuple(np.array(scene.labels)[seen].tolist()),
            track_ids=tuple(np.array(scene.ids)[seen].tolist()),
        )
        yield Frame(
            START_NS + stamp_ns, "front", CAMERA, labels=labels, T_fixed_camera=T_world_camera
        )


def score_tracks(
    tracks: BagTracks, frames: Iterable[Frame], noise: Noise, rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Return the scores, by tracker, of the tracks of labelled frames that are detected so."""
    for number, frame in enumerate(frames):
        event = ImageEvent(number, frame.stamp_ns, frame.stamp_ns, None, "camera")
        event = replace(event, T_fixed_camera=frame.T_fixed_camera)
        truth = true_tracks(frame, frame.camera, Taxonomy())
        tracks.update(ImageResult(event, detected(frame, noise, rng), truth_tracks=truth))
    return {name: metric.result() for name, metric in tracks.of("").metrics.items()}
