"""Write results and inputs as a recording for the Rerun viewer: ``rerun results.rrd``.

    camera/image                the image, as a pinhole camera's (without the lens's distortion)
    camera/image/detections     boxes in it
    result/depth, result/labels at the size of the output
    lidar, or thermal           the companion; returns in metres in the camera's frame
    detections                  boxes in space, in the same frame

Where several cameras are taken, each has these below its name: ``front/camera/image``.

Timelines: ``stamp``, the image's, and ``image``, its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lemumo_core.drawing import JPEG_QUALITY, class_colors
from lemumo_core.extras import install_line
from lemumo_core.frame import Frame, LidarScan, Perception, ThermalImage
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import quaternion_from_rotation, transform
from lemumo_core.inference.manifest import Manifest
from lemumo_core.messages.tracks import track_names
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.replay.image_events import image_events
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.published_depth import published_depth_m


class RerunRecording:
    """Writes results with their inputs, which it reads from the bag again. A context manager.

    Args:
        out: file to create.
        files: files of the bag, as ``BagReader`` opens them.
        manifest: manifest of the model.
        settings: options of the replay.

    Raises:
        ImportError: rerun-sdk is not installed.
    """

    def __init__(self, out: Path, files: Sequence[Path], manifest: Manifest, settings: Settings):
        self._rr = rr = _rerun()
        self._names, self._classes = manifest.detection_classes, manifest.classes
        self._events = image_events(files, settings, manifest.input.companion)
        self._recording = rr.RecordingStream("lemumo", recording_id=out.parent.name)
        self._recording.set_log_time_enabled(False)
        self._recording.set_log_tick_enabled(False)
        self._recording.save(out)
        self._legends = {
            "": (self._names, class_colors(len(self._names))),
            "result/labels": (manifest.segmentation_classes, manifest.palette),
        }
        self._begun: set[str] = set()
        self._camera = ""

    def __enter__(self) -> RerunRecording:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._recording.disconnect()

    def write(self, image_result: ImageResult, perception: Perception) -> None:
        """Add one result; results come in the order of the bag.

        Args:
            image_result: result of one image; the viewer draws it over the image by itself.
            perception: its perception, which is there.
        """
        rr, recording, event = self._rr, self._recording, image_result.event
        key = event.camera, event.number
        frame = next(e.frame for e in self._events if (e.camera, e.number) == key)
        self._begin(event.camera)
        assert frame is not None, "a result of a dropped image"
        recording.set_time("stamp", timestamp=np.datetime64(perception.stamp_ns, "ns"))
        recording.set_time("image", sequence=event.number)
        self._log_inputs(frame)
        self._log("result", self._pinhole(perception.output_camera))
        depth_m = published_depth_m(perception, self._classes)
        self._log("result/depth", rr.DepthImage(depth_m, meter=1.0))
        self._log("result/labels", rr.SegmentationImage(perception.labels))
        self._log_detections(perception)

    def _begin(self, camera: str) -> None:
        """Log what follows below the name of a camera, whose legends come first."""
        self._camera, rr = camera, self._rr
        if camera in self._begun:
            return
        self._begun.add(camera)
        self._log("", rr.ViewCoordinates.RDF, static=True)
        for path, (names, colors) in self._legends.items():
            legend = [(i, name, colors[i]) for i, name in enumerate(names)]
            self._log(path, rr.AnnotationContext(legend), static=True)

    def _log_inputs(self, frame: Frame) -> None:
        rr, companion = self._rr, frame.companion
        if frame.image is not None:
            self._log("camera/image", self._pinhole(frame.camera))
            self._log("camera/image", rr.Image(frame.image).compress(JPEG_QUALITY))
        if isinstance(companion, LidarScan):
            points = transform(companion.T_camera_lidar, companion.points[:, :3])
            self._log("lidar", rr.Points3D(points[np.isfinite(points).all(1)]))
        elif isinstance(companion, ThermalImage):
            self._log("thermal", rr.Image(companion.image, color_model="L"))

    def _log_detections(self, perception: Perception) -> None:
        rr, found = self._rr, perception.detections
        ids = found.class_ids
        labels = [
            f"{self._names[i]} {score:.2f}"
            for i, score in zip(ids.tolist(), found.scores.tolist(), strict=True)
        ]
        for i, track in enumerate(track_names(perception.tracks)):
            labels[i] = f"#{track} {labels[i]}" if track else labels[i]
        about = {"class_ids": ids, "labels": labels}
        boxes_2d = rr.Boxes2D(array=found.boxes_2d, array_format=rr.Box2DFormat.XYXY, **about)
        self._log("camera/image/detections", boxes_2d)
        if len(found.boxes_3d) == len(ids):  # not those of a 2D model
            turns = [quaternion_from_rotation(R) for R in box_rotation(found.boxes_3d[:, 6])]
            quaternions = [rr.Quaternion(xyzw=[*turn[1:], turn[0]]) for turn in turns]
            centers, sizes = found.boxes_3d[:, :3], found.boxes_3d[:, 3:6]
            boxes = rr.Boxes3D(centers=centers, sizes=sizes, quaternions=quaternions, **about)
            self._log("detections", boxes)

    def _pinhole(self, camera: Camera) -> Any:
        return self._rr.Pinhole(
            resolution=[camera.width, camera.height],
            focal_length=[camera.fx, camera.fy],
            principal_point=[camera.cx + 0.5, camera.cy + 0.5],  # Rerun's pixels begin at 0
        )

    def _log(self, path: str, what: Any, static: bool = False) -> None:
        whole = "/".join(part for part in (self._camera, path) if part)
        self._recording.log(whole or "/", what, static=static)


def _rerun() -> ModuleType:
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise ImportError(f"recordings for Rerun need: {install_line('rerun')}") from error
    return rerun
