"""The messages of a result, by topic: what the node publishes and a results bag holds.

Depth and labels are published as a camera without distortion sees them, because consumers of
depth images, such as depth_image_proc, read ``P`` of CameraInfo and no distortion.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.drawing import JPEG_QUALITY, class_colors, label_colors
from lemumo_core.frame import UNLABELLED, Frame, Perception
from lemumo_core.geometry.se3 import inverse
from lemumo_core.geometry.view_transfer import look_up_undistorted, undistorted
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.messages.markers import markers
from lemumo_core.messages.tracks import add_poses, track_names
from lemumo_core.streaming.overlay import draw_overlay
from lemumo_core.streaming.points import LABELED_FIELDS, colored_points, labeled_returns
from lemumo_core.streaming.published_depth import published_depth_m


@dataclass(frozen=True, eq=False)
class Result:
    """A perception, and what its messages say beside it.

    Attributes:
        perception: result of the model.
        manifest: manifest of the model.
        frame_id: frame that the source image's header names.
        T_camera_header: as in ``Frame``.
        output_frame: frame of the published boxes; empty: ``frame_id``.
        T_output_header: float64 (4, 4), from ``frame_id`` to ``output_frame``.
        depth_encoding: ``32FC1`` or ``16UC1``, as for ``MessageBuilder.depth_image``.
        frame: source frame; None where its pixels are not at hand, so that none of the outputs of
            ``FROM_FRAME`` can be built.
        labeler: 3D network that gives LiDAR returns their classes; None takes those of the pixels.
    """

    perception: Perception
    manifest: Manifest
    frame_id: str
    T_camera_header: np.ndarray
    output_frame: str = ""
    T_output_header: np.ndarray | None = None
    depth_encoding: str = "32FC1"
    frame: Frame | None = None
    labeler: PointLabeler | None = None

    @functools.cached_property
    def T_output_camera(self) -> np.ndarray:
        """Float64 (4, 4), from the camera of the perception to the frame of the boxes."""
        T_header_camera = inverse(self.T_camera_header)
        if self.T_output_header is None:
            return T_header_camera
        return self.T_output_header @ T_header_camera

    @functools.cached_property
    def depth_m(self) -> np.ndarray:
        """Float32 (h, w), metres, see ``published_depth_m``."""
        return published_depth_m(self.perception, self.manifest.classes)

    @functools.cached_property
    def overlay(self) -> np.ndarray:
        """Picture of the result over its input, uint8 RGB."""
        assert self.frame is not None
        return draw_overlay(self.frame, self.perception, self.manifest)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class ids without distortion: uint8 (h, w)."""
        return look_up_undistorted(
            self.perception.labels, self.perception.output_camera, UNLABELLED
        )


Builder = Callable[[MessageBuilder, Result], Any]


def _camera_header(build: MessageBuilder, result: Result) -> Any:
    return build.header(result.perception.stamp_ns, result.frame_id)


def _output_header(build: MessageBuilder, result: Result) -> Any:
    return build.header(result.perception.stamp_ns, result.output_frame or result.frame_id)


def _detections_3d(build: MessageBuilder, result: Result) -> Any:
    perception, T_output_camera = result.perception, result.T_output_camera
    message = build.detections_3d(
        perception.detections,
        result.manifest.detection_classes,
        T_output_camera,
        _output_header(build, result),
        track_names(perception.tracks),
    )
    if perception.tracks is not None:
        add_poses(build, message, perception.tracks, T_output_camera)
    return message


def _detections_2d(build: MessageBuilder, result: Result) -> Any:
    names, perception = result.manifest.detection_classes, result.perception
    header, ids = _camera_header(build, result), track_names(perception.tracks)
    return build.detections_2d(perception.detections, names, header, ids)


def _depth(build: MessageBuilder, result: Result) -> Any:
    depth_m = look_up_undistorted(result.depth_m, result.perception.output_camera, np.nan)
    return build.depth_image(depth_m, result.depth_encoding, _camera_header(build, result))


def _camera_info(build: MessageBuilder, result: Result) -> Any:
    return build.camera_info(
        undistorted(result.perception.output_camera),
        _camera_header(build, result),
        result.T_camera_header,
    )


def _labels(build: MessageBuilder, result: Result) -> Any:
    return build.label_image(result.labels, _camera_header(build, result))


def _labels_colored(build: MessageBuilder, result: Result) -> Any:
    colors = label_colors(result.labels, result.manifest.palette)
    return build.image(colors, "rgb8", _camera_header(build, result))


def _markers(build: MessageBuilder, result: Result) -> Any:
    names = result.manifest.detection_classes
    return markers(
        build,
        result.perception.detections,
        names,
        class_colors(len(names)),
        result.T_output_camera,
        _output_header(build, result),
        result.perception.tracks,
    )


def _points(build: MessageBuilder, result: Result) -> Any:
    assert result.frame is not None
    camera, header = result.perception.output_camera, _camera_header(build, result)
    return colored_points(build, result.frame, result.depth_m, camera, header)


def _points_labeled(build: MessageBuilder, result: Result) -> Any:
    assert result.frame is not None
    labels = None
    if result.labeler is not None:
        labels = result.labeler.label(result.frame, result.manifest.classes)
    points = labeled_returns(result.frame, result.perception, labels)
    return build.point_cloud(points, LABELED_FIELDS, _camera_header(build, result))


def _overlay(build: MessageBuilder, result: Result) -> Any:
    return build.image(result.overlay, "rgb8", _camera_header(build, result))


def _overlay_compressed(build: MessageBuilder, result: Result) -> Any:
    return build.jpeg(result.overlay, JPEG_QUALITY, _camera_header(build, result))


BUILDERS: dict[str, Builder] = {
    "detections_3d": _detections_3d,
    "detections_2d": _detections_2d,
    "depth/image_raw": _depth,
    "depth/camera_info": _camera_info,
    "labels": _labels,
    "labels_colored": _labels_colored,
    "markers": _markers,
    "points": _points,
    "points_labeled": _points_labeled,
    "overlay": _overlay,
    "overlay/compressed": _overlay_compressed,
}
"""Topic, below the node's ``~/output/``, to what builds its message."""
BOXES_3D = ("detections_3d", "markers")
"""Outputs that a model without 3D boxes has nothing for."""
FROM_FRAME = ("points", "points_labeled", "overlay", "overlay/compressed")
"""Outputs that need the source image, or its LiDAR scan."""
OVERLAYS = ("overlay", "overlay/compressed")
DRAWN = (*OVERLAYS, "markers", "labels_colored", "points")
"""Outputs for people's eyes: the node publishes them after all others, and none that is late."""
