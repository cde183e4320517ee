"""Labels that a model proposes for whole recordings, as a source: truth for people to correct."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.data.mixture import Mixture
from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault
from lemumo_core.folders.folder import Folder
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import count_points, image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import transform
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.label.agreement import SeenMap, agreeing_labels
from lemumo_core.label.object_tracks import SeenFrame
from lemumo_core.label.points import LabeledPoints
from lemumo_core.label.proposals import Proposals, propose
from lemumo_core.metrics.consistency import above

LEAST_SCORE = 0.1
"""Detections of a lower score say nothing even together. Boxes whose confidence is between it and
the threshold become regions to ignore: they may be objects or not."""
THRESHOLD = 0.2
GAP_NS = 2_000_000_000
"""Frames of one camera that are farther apart are of two recordings."""
NEIGHBOR_NS = 200_000_000
"""Label maps are held against those that lie so far before and after, or next where frames are
rarer: nearer ones repeat each other's errors."""
BOX_NUMBERS = 7


class Seen(NamedTuple):
    """Detections of a frame and what assigns them to a log; its maps are written elsewhere.

    Attributes:
        frame: what was found.
        camera_name: of the frame.
        has_pose: whether its pose is known.
        member: of which of several sources it is.
    """

    frame: SeenFrame
    camera_name: str
    has_pose: bool
    member: int


class Perceiver:
    """Runs a model over frames and keeps what it finds.

    Args:
        source: the frames.
        pipeline: the model.
        scratch: folder for the maps.
    """

    def __init__(self, source: FrameSource, pipeline: Pipeline, scratch: Folder):
        self._source, self._pipeline, self._scratch = source, pipeline, scratch

    def __call__(self, index: int) -> Seen:
        """Run the model over a frame, whose maps go to the scratch folder.

        Raises:
            Fault: as the source and the pipeline.
        """
        frame = self._source[index]
        found = self._pipeline(frame)
        with self._scratch.writing(f"{index}.npz") as file:
            np.savez(file, labels=found.labels, depth_m=found.depth_m.astype(np.float16))
        pose = frame.T_fixed_camera
        seen = SeenFrame(
            index=index,
            stamp_ns=frame.stamp_ns,
            T_fixed_camera=np.eye(4) if pose is None else pose,
            view=found.output_camera,
            detections=above(found, LEAST_SCORE).detections,
        )
        mixture = self._source.source if isinstance(self._source, LabeledPoints) else self._source
        member = mixture.locate(index)[0] if isinstance(mixture, Mixture) else 0
        return Seen(seen, frame.camera_name, pose is not None, member)


class ProposedLabels:
    """Frames of a source with the labels that a model proposes for them.

    The model saw every frame once. Boxes are those of ``proposals.propose``; label maps are the
    model's where frames before and after agree (``agreement``), or all of them where no pose of
    the camera is known. Depth and labels of points stay as they are.

    Args:
        source: the frames, each recording and camera in order of time.
        manifest: of the model.
        scratch: folder of its maps, which is needed as long as this source.
        threshold: confidence from which on a box is proposed.

    Raises:
        Fault: ``no_boxes_3d`` for a model that detects in the image; ``bad_option``.
    """

    def __init__(
        self,
        source: FrameSource,
        manifest: Manifest,
        scratch: Folder,
        threshold: float = THRESHOLD,
    ):
        self.manifest = manifest
        if manifest.numbers_of_box != BOX_NUMBERS:
            raise Fault(
                "no_boxes_3d",
                f"{manifest.name} detects boxes in the image, and proposals are boxes in space: "
                "take a model with 3D boxes",
            )
        if not LEAST_SCORE <= threshold <= 1:
            raise Fault("bad_option", f"threshold is {threshold}, must be from {LEAST_SCORE} to 1")
        self.source, self.threshold, self._scratch = source, threshold, scratch
        self._seen: list[Seen] = []
        self.proposals = [_nothing()] * len(source)
        self._neighbors: dict[int, list[int]] = {}

    def propose(self, seen: Iterable[Seen]) -> None:
        """Propose labels for all frames.

        Args:
            seen: of each frame, in their order, as of ``Perceiver``.

        Raises:
            Fault: as ``seen``.
        """
        self._seen = list(seen)
        for recording in self._recordings():
            self._neighbors |= _neighbors(recording)
            frames = [seen.frame for seen in recording]
            found = propose(frames, self._scan, self.manifest.classes.kind_ids)
            for frame, proposals in zip(frames, found, strict=True):
                self.proposals[frame.index] = proposals

    @property
    def has_poses(self) -> bool:
        """Whether the pose of every frame is known."""
        return all(seen.has_pose for seen in self._seen)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        frame, found = self.source[index], self.proposals[index]
        kept = found.confidence >= self.threshold
        boxes = found.boxes_3d[kept]
        num_points = None
        if isinstance(frame.companion, LidarScan):
            scan = frame.companion
            points = transform(scan.T_camera_lidar, scan.points[:, :3].astype(np.float64))
            num_points = count_points(points, boxes.astype(np.float64))
        own = frame.labels or Labels()
        labels = Labels(
            boxes_3d=boxes,
            boxes_2d=image_bounds(boxes, frame.camera),
            class_names=tuple(self.manifest.detection_classes[i] for i in found.class_ids[kept]),
            num_points=num_points,
            box_confidence=found.confidence[kept].astype(np.float16),
            track_ids=tuple(f"{frame.camera_name}-{i}" for i in found.track_ids[kept]),
            ignore=image_bounds(found.boxes_3d[~kept], frame.camera),
            depth_m=own.depth_m,
        )
        if own.point_labels is not None:
            labels = replace(
                labels,
                point_labels=own.point_labels,
                point_confidence=own.point_confidence,
                label_names=own.label_names,
            )
        else:
            label_map = self._label_map(index, frame.camera)
            names_of_ids = self.manifest.segmentation_classes
            labels = replace(labels, label_map=label_map, label_names=names_of_ids)
        return replace(frame, labels=labels)

    def describe(self) -> dict[str, Any]:
        """See ``FrameSource``; it says which model the labels are from."""
        manifest = self.manifest
        return {
            "source": "proposed labels",
            "model": f"{manifest.name} {manifest.version}",
            "files": manifest.files,
            "threshold": self.threshold,
            "frames": len(self),
            "of": self.source.describe(),
        }

    def _recordings(self) -> Iterator[list[Seen]]:
        """Yield the frames of each recording of a camera, in order of time."""

        def camera(seen: Seen) -> tuple[int, str]:
            return seen.member, seen.camera_name

        for _, frames in groupby(sorted(self._seen, key=camera), camera):  # sorting is stable
            recording: list[Seen] = []
            for seen in frames:
                if recording:
                    gap_ns = seen.frame.stamp_ns - recording[-1].frame.stamp_ns
                    if not 0 <= gap_ns <= GAP_NS:
                        yield recording
                        recording = []
                recording.append(seen)
            yield recording

    def _scan(self, index: int) -> LidarScan | None:
        companion = self.source[index].companion
        return companion if isinstance(companion, LidarScan) else None

    def _label_map(self, index: int, camera: Camera) -> np.ndarray:
        """Return the labels at the size of the image, uint8 (H, W)."""
        one = self._map(index)
        labels = agreeing_labels(one, [self._map(i) for i in self._neighbors[index]])
        return look_up(labels, one.camera, camera, UNLABELLED)

    def _map(self, index: int) -> SeenMap:
        with np.load(BytesIO(self._scratch.read(f"{index}.npz"))) as maps:
            labels, depth_m = maps["labels"], maps["depth_m"].astype(np.float32)
        frame = self._seen[index].frame
        return SeenMap(labels, depth_m, frame.view, frame.T_fixed_camera)


def _neighbors(recording: list[Seen]) -> dict[int, list[int]]:
    """Return for each frame, by index, the frames before and after that its map is held against."""
    if not all(seen.has_pose for seen in recording):
        return {seen.frame.index: [] for seen in recording}
    stamps_ns = np.array([seen.frame.stamp_ns for seen in recording])
    indices = [seen.frame.index for seen in recording]
    before = np.searchsorted(stamps_ns, stamps_ns - NEIGHBOR_NS, side="right") - 1
    after = np.searchsorted(stamps_ns, stamps_ns + NEIGHBOR_NS, side="left")
    found = {}
    for i, index in enumerate(indices):
        pair = {min(int(before[i]), i - 1) if before[i] >= 0 else i - 1, max(int(after[i]), i + 1)}
        found[index] = [indices[j] for j in sorted(pair) if 0 <= j < len(indices)]
    return found


def _nothing() -> Proposals:
    empty = np.zeros(0, np.int64)
    return Proposals(np.zeros((0, 7), np.float32), empty, np.zeros(0, np.float32), empty)
