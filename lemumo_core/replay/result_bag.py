"""Write a bag with the results beside the inputs, to be opened in Foxglove, without ROS.

    /perception/output/detections_3d, detections_2d         vision_msgs, class names as ids
    /perception/output/depth/image_raw, depth/camera_info   32FC1 metres, NaN unknown
    /perception/output/labels, label_info                   mono8 ids; their names, latched
    /perception/output/labels_colored                       rgb8
    /perception/output/markers                              boxes for viewers
    /perception/output/points_labeled                       LiDAR returns, where they are wanted
    /perception/output/overlay/compressed                   JPEG, where overlays are drawn

Messages and topics are those of the node by its usual name, with the stamp and frame of the source
image, so that the layouts for RViz and Foxglove show them. Where several cameras are taken, each
has its own, /perception/output/CAMERA/detections_3d and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_core.bags.writer import METADATA_VERSION, qos
from lemumo_core.drawing import JPEG_QUALITY
from lemumo_core.faults import Fault
from lemumo_core.frame import Perception
from lemumo_core.inference.manifest import Manifest
from lemumo_core.replay.evaluator import ImageResult
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.outputs import (
    BOXES_3D,
    BUILDERS,
    FROM_FRAME,
    Result,
)
from lemumo_core.streaming.points import LABELED_FIELDS

with suppress(ModuleNotFoundError):  # reported by BagReader
    from rosbags.rosbag2 import StoragePlugin, Writer

OUTPUT = "/perception/output/"


class ResultBag:
    """Copies a bag and writes each result after its image. A context manager.

    Args:
        out: bag folder to create.
        files: files of the bag, as ``BagReader`` opens them. Earlier results are left out.
        manifest: manifest of the model.
        settings: options of the replay; label_info carries their score threshold.

    Raises:
        ImportError, Fault: as ``BagReader``.
    """

    def __init__(self, out: Path, files: Sequence[Path], manifest: Manifest, settings: Settings):
        self._reader = BagReader(files)
        self._manifest, self._score_threshold = manifest, settings.score_threshold
        self._build = RosbagsBuilder()
        self._writer = Writer(out, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}
        self._inputs = self._copied_inputs()
        self._waiting = next(self._inputs, None)

    def __enter__(self) -> ResultBag:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._copy_until(None)
        finally:
            self._writer.close()
            self._reader.close()

    def write(self, image_result: ImageResult, perception: Perception) -> None:
        """Add one result; results come in the order of the bag.

        Args:
            image_result: result of one image.
            perception: its perception, which is there.
        """
        event, overlay = image_result.event, image_result.overlay
        output = f"{OUTPUT}{event.camera}/" if event.camera else OUTPUT
        self._copy_until(event.arrival_ns)
        build = self._build
        result = Result(perception, self._manifest, event.frame_id, event.T_camera_header)
        header = build.header(perception.stamp_ns, event.frame_id)
        messages = {
            name: BUILDERS[name](build, result)
            for name in BUILDERS
            if name not in FROM_FRAME
            and (name not in BOXES_3D or self._manifest.numbers_of_box == 7)
            and (build.has_vision_msgs or not name.startswith("detections"))
        }
        if build.has_vision_msgs and output + "label_info" not in self._connections:
            messages["label_info"] = build.label_info(
                self._manifest.segmentation_classes, self._score_threshold, header
            )
        if image_result.labeled_points is not None:
            points = image_result.labeled_points
            messages["points_labeled"] = build.point_cloud(points, LABELED_FIELDS, header)
        if overlay is not None:
            bgr = cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR)
            assert bgr is not None
            messages["overlay/compressed"] = build.jpeg(bgr[..., ::-1], JPEG_QUALITY, header)
        for name, message in messages.items():
            topic = output + name
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic,
                    message.__msgtype__,
                    typestore=build.typestore,
                    offered_qos_profiles=[qos(latched=name == "label_info")],
                )
            data = build.serialize(message)
            self._writer.write(self._connections[topic], event.arrival_ns, data)

    def _copied_inputs(self) -> Iterator[RawMessage]:
        topics = [
            topic.name
            for topic in self._reader.topics
            if not topic.name.startswith(OUTPUT) and topic.type in self._reader.typestore.types
        ]
        for name in topics:
            kind = next(topic.type for topic in self._reader.topics if topic.name == name)
            self._connections[name] = self._writer.add_connection(
                name,
                kind,
                typestore=self._reader.typestore,
                offered_qos_profiles=[qos(latched=self._reader.latched(name))],
            )
        try:
            yield from self._reader.raw_messages(topics)
        except Fault as fault:  # the replay of the bag reports it, and ends here too
            if fault.reason != "damaged_bag":
                raise

    def _copy_until(self, stamp_ns: int | None) -> None:
        """Copy inputs up to this log time; None copies all that are left."""
        while self._waiting and (stamp_ns is None or self._waiting.stamp_ns <= stamp_ns):
            raw = self._waiting
            self._writer.write(self._connections[raw.topic], raw.stamp_ns, raw.data)
            self._waiting = next(self._inputs, None)
