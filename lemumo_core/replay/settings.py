"""The options of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.cameras import cameras_of, check_of_one_camera, takes_several
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.messages.calibration_file import read_calibration
from lemumo_core.messages.camera_info import Rectified
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.masked_returns import Mask
from lemumo_core.streaming.camera_options import CameraOptions

SENSOR_TOPICS = ("image", "camera_info", "points", "thermal", "thermal_info", "depth_info")
"""Roles of the topics that a replay reads."""
COMPARE_EVERY = 4
"""Default of ``compare_every`` for a camera with at least ``SHORT_BAG`` images in a bag."""
SHORT_BAG = 100
"""Number of images below which all of a camera are compared: they are soon done, and needed."""


@dataclass(frozen=True)
class Settings:
    """Options of a replay, which can be pickled.

    Attributes:
        model: folder of the model package.
        backend: name of a backend.
        score_threshold: least score of a published detection; metrics use all detections.
        sync_tolerance_ns, companion_deadline_ns: as in ``Matcher``.
        companion_offset_ns: as in ``CameraOptions``.
        extrinsics: (4, 4) T_camera_companion instead of tf.
        rectified: whether the images are rectified ones, as for ``camera_of_images``.
        fixed_frame: as in ``CameraOptions``.
        tracking: whether objects are tracked, in ``fixed_frame``, where several cameras share the
            tracks, or else in each camera's frame.
        topics: role, of ``SENSOR_TOPICS``, to topic; None finds the topic. That of the image may
            choose several cameras (``takes_several``).
        calibration: YAML file of camera_calibration instead of the bag's camera_info, or None.
        truth: name and options of a source with labels, None for the topics of the bag.
        mask: of the LiDAR returns that depth is evaluated on, as for ``mask_returns``.
        band_edges_m: bands of depth by which metrics are broken down.
        compare_every: of so many images of a camera one is compared: perceived by the camera alone
            too, and beside trivial answers; None as ``COMPARE_EVERY`` and ``SHORT_BAG`` have it.
        evaluate: whether to compute metrics and checks, or only to perceive.
        overlays: whether to draw every frame.
        labeled_points: whether to colour and label the LiDAR returns of every frame.
        points_model: run of fine-tuning on points, whose 3D network labels them; None takes the
            classes of the pixels.
    """

    model: Path
    backend: str = "auto"
    score_threshold: float = PUBLISHED_SCORE
    sync_tolerance_ns: int = 60_000_000
    companion_deadline_ns: int = 100_000_000
    companion_offset_ns: int = 0
    extrinsics: np.ndarray | None = None
    rectified: Rectified = "auto"
    fixed_frame: str = ""
    tracking: bool = False
    topics: dict[str, str | None] = field(default_factory=dict)
    calibration: str | None = None
    truth: tuple[str, dict[str, Any]] | None = None
    mask: Mask | None = None
    band_edges_m: tuple[float, ...] = BAND_EDGES_M
    compare_every: int | None = None
    evaluate: bool = True
    overlays: bool = False
    labeled_points: bool = False
    points_model: Path | None = None

    def __post_init__(self) -> None:
        check_of_one_camera(
            self.topics.get("image"),
            camera_info=self.topics.get("camera_info"),
            calibration=self.calibration,
            extrinsics=self.extrinsics,
        )

    def find_cameras(self, reader: BagReader) -> dict[str, BagTopics]:
        """Return the sensors' topics of each camera of a bag by its name; '' names a single one.

        Raises:
            Fault: as ``cameras_of`` and ``topics.find_topics``.
        """
        image = self.topics.get("image")
        named = cameras_of(reader, str(image)) if takes_several(image) else {"": image}
        without_info = {} if self.calibration is None else {"camera_info": ""}
        return {
            name: find_topics(reader, **self.topics | without_info | {"image": topic})
            for name, topic in named.items()
        }

    def of_camera(self, image: str) -> Settings:
        """Return the settings of a replay of the camera with this topic alone."""
        return replace(self, topics={**self.topics, "image": image})

    def camera_options(self, lidars: tuple[str, ...] = ()) -> CameraOptions:
        """Return the options of the camera's input.

        Args:
            lidars: topics whose points are merged, where there are several.

        Raises:
            Fault: as ``read_calibration``.
        """
        given = None if self.calibration is None else read_calibration(self.calibration)
        return CameraOptions(
            self.sync_tolerance_ns,
            self.companion_deadline_ns,
            self.companion_offset_ns,
            T_camera_companion=self.extrinsics,
            rectified=self.rectified,
            fixed_frame=self.fixed_frame,
            tracking_frame=self.fixed_frame if self.tracking else None,
            camera_info=given,
            lidars=lidars if len(lidars) > 1 else (),
        )

    def compare_one_in(self, images: int) -> int:
        """Return of how many images one is compared, of a camera with so many in a bag."""
        return self.compare_every or (1 if images < SHORT_BAG else COMPARE_EVERY)

    def tracking_facts(self, scored: bool) -> dict[str, str]:
        """Return what is to be said of tracks: where they are, and why there are no scores."""
        if not self.tracking:
            return {}
        relative = "the camera's frame: velocities are relative to it"
        facts = {"tracked_in": self.fixed_frame or relative}
        if self.evaluate and not scored:
            facts["tracks"] = "not scored: no label says which object it is"
        return facts
