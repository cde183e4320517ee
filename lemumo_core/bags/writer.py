"""Write Frames of any source as a ROS 2 bag, without ROS.

    /camera/image_raw, or .../compressed or .../foxglove, /camera/camera_info   camera_optical
    /lidar/points (x, y, z, intensity[, ring] float32)                          lidar
    /thermal/image_raw, /thermal/camera_info                                    thermal_optical
    /tf_static   base_link -> camera_optical, lidar, thermal_optical            transient local
    /ground_truth/detections_3d (vision_msgs/Detection3DArray)                  camera_optical
    /ground_truth/ignore (vision_msgs/Detection2DArray), regions of the image    camera_optical
    /ground_truth/labels (mono8), /ground_truth/depth (32FC1, metres)           camera_optical
    /ground_truth/label_info (vision_msgs/LabelInfo), where ids have names       transient local

``base_link`` is at the camera, with REP-103 body axes, because sources know no vehicle. The other
parts of ``Labels`` have no message and are not written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lemumo_core.bags.index import TF_STATIC
from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import require_rosbags
from lemumo_core.bags.topics import GROUND_TRUTH, LABEL_INFO
from lemumo_core.bags.video_writer import VideoWriter
from lemumo_core.faults import Fault
from lemumo_core.frame import Detections, Frame, LidarScan, RasterImage, ThermalImage
from lemumo_core.geometry.se3 import T_BODY_OPTICAL, inverse, transform

try:
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import StoragePlugin, Writer
except ModuleNotFoundError:
    pass  # reported by require_rosbags, when a bag is really to be written

STORAGES = ("mcap", "sqlite3")
METADATA_VERSION: Literal[8] = 8
"""Version of metadata.yaml: the newest that keeps QoS profiles as text, as Humble expects them."""
JPEG_QUALITY = 95
"""Camera images are written with this quality: models learn from them, so it exceeds that of
pictures that are only looked at (``drawing.JPEG_QUALITY``)."""
POINT_FIELDS = ("x", "y", "z", "intensity", "ring")
"""Columns of the points that are written; intensity is 0 where a source has none, and the ring is
left out."""

LATCHED = (TF_STATIC, LABEL_INFO)

BASE, CAMERA, LIDAR, THERMAL = "base_link", "camera_optical", "lidar", "thermal_optical"
T_BASE_CAMERA = T_BODY_OPTICAL

Stamped = tuple[int, str, Any]
"""Log time (ns), topic and message."""


def write_bag(
    frames: Iterable[Frame],
    out: str | Path,
    storage: str = "mcap",
    jpeg: bool = False,
    limit: int | None = None,
    video: Literal["h264", "h265"] | None = None,
) -> None:
    """Write Frames of one camera as a bag; header stamps and log times are the Frames' own.

    Consecutive Frames whose companions bear the same stamp share one sweep (or thermal image),
    which is written once. A bag has one extrinsic, while a source that compensates ego-motion
    gives each Frame its own: /tf_static holds that of the first Frame with a companion (of those
    that share it, the nearest in time), and points of other sweeps are moved so that the Frame
    nearest to each sweep sees them where its own transform put them. Where the transforms are
    equal, points are written as they are.

    Args:
        frames: a source, or any other iterable of Frames in order of their stamps.
        out: bag folder to create; it appears when all of it is written.
        storage: ``mcap`` or ``sqlite3``.
        jpeg: store CompressedImage (JPEG) instead of raw images.
        limit: largest number of Frames to write; None writes all.
        video: store foxglove_msgs/CompressedVideo of this codec instead of single images.

    Raises:
        ImportError: rosbags or, for video, PyAV is not installed; the message says how.
        FileExistsError: ``out`` exists.
        Fault: ``empty_source``, ``several_cameras``, ``several_legends``, or as the iterable
            raises.
    """
    require_rosbags()
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another name or remove it")
    messages = _Messages(jpeg, VideoWriter(video) if video else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        unfinished = Path(folder) / out.name
        with Writer(
            unfinished, version=METADATA_VERSION, storage_plugin=StoragePlugin[storage.upper()]
        ) as writer:
            connections: dict[str, Any] = {}
            for run in _sharing_a_companion(islice(frames, limit)):
                for stamp_ns, topic, message in messages.of(run):
                    if topic not in connections:
                        connections[topic] = writer.add_connection(
                            topic,
                            message.__msgtype__,
                            typestore=messages.build.typestore,
                            offered_qos_profiles=[qos(latched=topic in LATCHED)],
                        )
                    writer.write(connections[topic], stamp_ns, messages.build.serialize(message))
        if messages.camera_name is None:
            raise Fault("empty_source", "there are no frames to write")
        unfinished.rename(out)


class _Messages:
    """Turns Frames into messages, and remembers the extrinsics that were written."""

    def __init__(self, jpeg: bool, video: VideoWriter | None):
        self.build = RosbagsBuilder()
        if not self.build.has_vision_msgs:
            print("without boxes: vision_msgs is neither in interfaces nor in a sourced ROS")
        self.jpeg, self.video = jpeg, video
        self.camera_name: str | None = None
        self.label_names: tuple[str, ...] = ()
        self.rig: dict[str, np.ndarray] = {}
        """Frame to T_camera_frame, as /tf_static holds it."""

    def of(self, run: list[Frame]) -> list[Stamped]:
        """Return the messages of Frames that share a companion, in order of their stamps."""
        found = [stamped for frame in run for stamped in self._of_camera(frame)]
        poses = {CAMERA: np.eye(4)}
        nearest = min(run, key=_gap_ns)
        companion = nearest.companion
        if isinstance(companion, LidarScan):
            poses[LIDAR] = companion.T_camera_lidar
            found.append(self._points(companion))
        elif isinstance(companion, RasterImage):
            raise Fault("wrong_companion", "a bag has no message for rasters of several bands")
        elif isinstance(companion, ThermalImage):
            poses[THERMAL] = companion.T_camera_thermal
            found += self._thermal(companion)
        found.sort(key=lambda stamped: stamped[0])
        new = {name: T for name, T in poses.items() if name not in self.rig}
        if found and new:
            self.rig |= new
            earliest = found[0][0]
            on_base = {name: T_BASE_CAMERA @ T for name, T in new.items()}
            found.insert(
                0,
                (
                    earliest,
                    TF_STATIC,
                    self.build.transforms(on_base, self.build.header(earliest, BASE)),
                ),
            )
        return found

    def _of_camera(self, frame: Frame) -> Iterator[Stamped]:
        if frame.camera_name != (self.camera_name or frame.camera_name):
            raise Fault(
                "several_cameras",
                f"the source has frames of {self.camera_name} and of {frame.camera_name}, a bag "
                "holds those of one camera: choose one, e.g. cameras=CAM_FRONT for nuscenes",
            )
        self.camera_name = frame.camera_name
        stamp, build = frame.stamp_ns, self.build
        header = build.header(stamp, CAMERA)
        if frame.image is not None:
            yield stamp, "/camera/camera_info", build.camera_info(frame.camera, header)
            if self.video:
                packet = build.video(self.video.encode(frame.image), self.video.codec, header)
                yield stamp, "/camera/image_raw/foxglove", packet
            elif self.jpeg:
                jpeg = build.jpeg(frame.image, JPEG_QUALITY, header)
                yield stamp, "/camera/image_raw/compressed", jpeg
            else:
                yield stamp, "/camera/image_raw", build.image(frame.image, "rgb8", header)
        labels = frame.labels
        if labels is None:
            return
        if labels.boxes_3d is not None and build.has_vision_msgs:
            found = _true_detections(labels.boxes_3d, labels.box_confidence), labels.class_names
            boxes = build.detections_3d(*found, np.eye(4), header, labels.track_ids)
            yield stamp, GROUND_TRUTH["detections"], boxes
        if labels.ignore is not None and build.has_vision_msgs:
            regions = build.detections_2d(_certain_regions(labels.ignore), ("ignore",), header)
            yield stamp, GROUND_TRUTH["ignore"], regions
        if labels.label_map is not None:
            if labels.label_names and labels.label_names != self.label_names:
                yield stamp, LABEL_INFO, self._label_info(labels.label_names, header)
            yield stamp, GROUND_TRUTH["labels"], build.label_image(labels.label_map, header)
        if labels.depth_m is not None:
            yield stamp, GROUND_TRUTH["depth"], build.depth_image(labels.depth_m, "32FC1", header)

    def _label_info(self, names: tuple[str, ...], header: Any) -> Any:
        if self.label_names:
            raise Fault(
                "several_legends",
                "label ids of the source change their names, and a bag names them once: write "
                "frames of one naming into each bag",
            )
        self.label_names = names
        return self.build.label_info(names, 0.0, header)

    def _points(self, scan: LidarScan) -> Stamped:
        names = POINT_FIELDS[: max(4, scan.points.shape[1])]
        cloud = scan.columns(len(names))
        T_camera_lidar = self.rig.get(LIDAR, scan.T_camera_lidar)
        if not np.array_equal(T_camera_lidar, scan.T_camera_lidar):
            T = inverse(T_camera_lidar) @ scan.T_camera_lidar
            cloud[:, :3] = transform(T, cloud[:, :3].astype(np.float64))
        header = self.build.header(scan.stamp_ns, LIDAR)
        message = self.build.point_cloud(cloud, names, header)
        return scan.stamp_ns, "/lidar/points", message

    def _thermal(self, thermal: ThermalImage) -> Iterator[Stamped]:
        stamp, build = thermal.stamp_ns, self.build
        header = build.header(stamp, THERMAL)
        encoding = "mono16" if thermal.image.dtype == np.uint16 else "mono8"
        yield stamp, "/thermal/camera_info", build.camera_info(thermal.camera, header)
        yield stamp, "/thermal/image_raw", build.image(thermal.image, encoding, header)


def _true_detections(boxes: np.ndarray, confidence: np.ndarray | None) -> Detections:
    """Return ground truth as detections, each a class of its own, of score 1 unless proposed."""
    count = len(boxes)
    scores = np.ones(count) if confidence is None else confidence
    return Detections(boxes, np.zeros((count, 4)), scores, np.arange(count))


def _certain_regions(regions: np.ndarray) -> Detections:
    """Return regions to ignore as 2D detections of score 1, all of class id 0."""
    count = len(regions)
    return Detections(np.zeros((0, 7)), regions, np.ones(count), np.zeros(count, np.int64))


def _sharing_a_companion(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Group consecutive Frames with the same companion; one without a companion stays alone."""

    def shared(numbered: tuple[int, Frame]) -> tuple[str, int]:
        number, frame = numbered
        return ("companion", c.stamp_ns) if (c := frame.companion) else ("alone", number)

    for _, run in groupby(enumerate(frames), shared):
        yield [frame for _, frame in run]


def _gap_ns(frame: Frame) -> int:
    """Return the time between a Frame and its companion."""
    return abs(frame.stamp_ns - frame.companion.stamp_ns) if frame.companion else 0


def qos(latched: bool) -> Qos:
    """Return the QoS profile of a topic in a bag; latched topics are transient local."""
    forever = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
