"""Write Frames of any source as a ROS 2 bag, without ROS: ``lemumo make-bag``.

    /camera/image_raw or /camera/image_raw/compressed, /camera/camera_info      camera_optical
    /lidar/points (x, y, z, intensity float32)                                  lidar
    /thermal/image_raw, /thermal/camera_info                                    thermal_optical
    /tf_static   base_link -> camera_optical, lidar, thermal_optical            transient local
    /ground_truth/detections_3d (vision_msgs/Detection3DArray)                  camera_optical

``base_link`` sits in the camera with REP-103 body axes, for the sources know no vehicle.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from lemumo_core.data.sources.bag_reader import require_rosbags
from lemumo_core.data.sources.files import existing, read_image
from lemumo_core.data.sources.kitti import FIRST_STAMP_NS, KittiObject, KittiRaw
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, quaternion_from_rotation, transform

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
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore
except ModuleNotFoundError:
    pass  # said by require_rosbags, when a bag is really to be written

SOURCES = ("kitti", "kitti-raw", "nuscenes", "rgb-thermal", "synthetic")
TIMED_SOURCES = ("nuscenes", "synthetic")
STORAGES = ("mcap", "sqlite3")
METADATA_VERSION: Literal[8] = 8
"""Of metadata.yaml: the newest that keeps QoS profiles as text, as Humble expects them."""
JPEG_QUALITY = 95
PROGRESS_EVERY = 10

BASE, CAMERA, LIDAR, THERMAL = "base_link", "camera_optical", "lidar", "thermal_optical"
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))


class FrameSource(Protocol):
    """What the readers in ``lemumo_core.data.sources`` have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...


class RgbThermalPairs:
    """Aligned RGB and thermal pairs of a flat KAIST-like folder (``X_visible.*``, ``X_lwir.*``) or
    of LLVIP (``*_vi/X.*``, ``*_ir/X.*``).

    These sets carry neither calibration nor times: both cameras are taken for one pinhole of a
    nominal focal length, and stamps are made up.

    Args:
        root: the folder.
        focal_px: nominal focal length, pixels.
        rate_hz: of the stamps.

    Raises:
        FileNotFoundError: the folder or a thermal image is missing.
    """

    LAYOUT = "X_visible.* with X_lwir.*, or *_vi/X.* with *_ir/X.*"

    def __init__(self, root: str | Path, focal_px: float = 700.0, rate_hz: float = 2.0):
        root = existing(Path(root), self.LAYOUT)
        self.pairs = [
            (v, v.with_name(v.name.replace("_visible", "_lwir"))) for v in root.glob("*_visible.*")
        ]
        self.pairs += [
            (v, v.parents[1] / f"{v.parent.name.removesuffix('_vi')}_ir" / v.name)
            for v in root.glob("*_vi/*")
        ]
        self.pairs.sort()
        if not self.pairs:
            raise FileNotFoundError(f"{root} holds no pairs; expected {self.LAYOUT}")
        self.focal_px, self.rate_hz = focal_px, rate_hz

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Frame:
        visible, infrared = self.pairs[index]
        image = read_image(visible)
        thermal = read_image(infrared, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        stamp_ns = FIRST_STAMP_NS + round(range(len(self))[index] * 1e9 / self.rate_hz)
        return Frame(
            stamp_ns=stamp_ns,
            camera_name="visible",
            camera=self._pinhole(image),
            image=image,
            companion=ThermalImage(thermal, self._pinhole(thermal), np.eye(4), stamp_ns),
        )

    def _pinhole(self, image: np.ndarray) -> Camera:
        height, width = image.shape[:2]
        return Camera(
            width, height, self.focal_px, self.focal_px, (width - 1) / 2, (height - 1) / 2
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``lemumo make-bag``."""
    parser.add_argument("source", choices=SOURCES, help="what to convert")
    parser.add_argument("path", nargs="?", help="its folder (none for synthetic)")
    parser.add_argument("--out", required=True, help="bag folder to create")
    parser.add_argument("--storage", choices=STORAGES, default="mcap")
    parser.add_argument("--jpeg", action="store_true", help="store images as JPEG")
    parser.add_argument("--rate-hz", type=float, help="frame rate of sets that carry no times")
    parser.add_argument("--camera", default="CAM_FRONT", help="nuScenes channel")
    parser.add_argument("--focal-px", type=float, default=700.0, help="rgb-thermal focal length")
    parser.add_argument("--frames", type=int, help="at most this many (synthetic: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic street")


def main(args: argparse.Namespace) -> int:
    """Run ``lemumo make-bag`` with parsed options; returns the exit status."""
    make_bag(
        args.source,
        args.path,
        args.out,
        storage=args.storage,
        jpeg=args.jpeg,
        rate_hz=args.rate_hz,
        camera=args.camera,
        focal_px=args.focal_px,
        frames=args.frames,
        seed=args.seed,
    )
    return 0


def make_bag(
    source_name: str,
    source_path: str | Path | None,
    out: str | Path,
    *,
    storage: str = "mcap",
    jpeg: bool = False,
    rate_hz: float | None = None,
    camera: str = "CAM_FRONT",
    focal_px: float = 700.0,
    frames: int | None = None,
    seed: int = 0,
) -> None:
    """Convert a data set to a bag.

    Args:
        source_name: one of ``SOURCES``.
        source_path: its folder; None for ``synthetic``.
        out: bag folder to create.
        storage: ``mcap`` or ``sqlite3``.
        jpeg: store CompressedImage (JPEG) instead of raw images.
        rate_hz: rate of made-up stamps; default 10 for drives, 2 for unrelated frames.
        camera: nuScenes channel.
        focal_px: nominal focal length of ``rgb-thermal``.
        frames: at most this many frames.
        seed: of ``synthetic``.

    Raises:
        FileExistsError: ``out`` exists.
        FileNotFoundError, Fault: as the source; ``no_path`` where a folder must be given.
    """
    if rate_hz is not None and (rate_hz <= 0 or source_name in TIMED_SOURCES):
        raise Fault(
            "bad_rate",
            f"--rate-hz {rate_hz}: must be positive, and {' and '.join(TIMED_SOURCES)} have times "
            "of their own",
        )
    if source_name == "synthetic":
        write_bag(SyntheticStreet(seed, 100 if frames is None else frames), out, storage, jpeg)
        return
    openers: dict[str, Callable[[str | Path], FrameSource]] = {
        "kitti": lambda path: KittiObject(path, rate_hz=rate_hz or 2.0),
        "kitti-raw": lambda path: KittiRaw(path, rate_hz or 10.0),
        "nuscenes": lambda path: NuScenes(path, camera),
        "rgb-thermal": lambda path: RgbThermalPairs(path, focal_px, rate_hz or 2.0),
    }
    if source_name not in openers:
        raise Fault("unknown_source", f"unknown source {source_name}; known: {', '.join(SOURCES)}")
    if source_path is None:
        raise Fault("no_path", f"{source_name} needs the folder of the data set")
    write_bag(openers[source_name](source_path), out, storage, jpeg, frames)


def write_bag(
    source: FrameSource,
    out: str | Path,
    storage: str = "mcap",
    jpeg: bool = False,
    frames: int | None = None,
) -> None:
    """Write Frames as a bag; header stamps and log times are the Frames' own.

    /tf_static holds the first Frame's ``T_camera_lidar``. Where a later one differs, because the
    source compensates ego-motion, that Frame's points are moved into the first one's LiDAR frame,
    so that the static transform is right for all of them.

    Args:
        source: the Frames.
        out: bag folder to create; a half-written one is removed when writing fails.
        storage: ``mcap`` or ``sqlite3``.
        jpeg: store CompressedImage (JPEG) instead of raw images.
        frames: at most this many.

    Raises:
        ImportError: rosbags is not installed; the message says how.
        FileExistsError: ``out`` exists.
        Fault: ``empty_source``, or as the source.
    """
    require_rosbags()
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another name or remove it")
    count = len(source) if frames is None else min(frames, len(source))
    if count < 1:
        raise Fault("empty_source", "there are no frames to write")
    first = source[0]
    messages = Messages(first, jpeg)
    try:
        writer = Writer(
            out, version=METADATA_VERSION, storage_plugin=StoragePlugin[storage.upper()]
        )
        with writer:
            connections: dict[str, Any] = {}
            for index in range(count):
                frame = first if index == 0 else source[index]
                for stamp_ns, topic, message in messages.of(frame, with_transforms=index == 0):
                    kind = message.__msgtype__
                    if topic not in connections:
                        connections[topic] = writer.add_connection(
                            topic,
                            kind,
                            typestore=messages.typestore,
                            offered_qos_profiles=[_qos(latched=topic == "/tf_static")],
                        )
                    data = messages.typestore.serialize_cdr(message, kind)
                    writer.write(connections[topic], stamp_ns, data)
                if (index + 1) % PROGRESS_EVERY == 0 or index + 1 == count:
                    print(f"{out}: {index + 1} of {count} frames", flush=True)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


class Messages:
    """Turns Frames into messages.

    Args:
        first: the Frame whose extrinsics become /tf_static.
        jpeg: images as CompressedImage.
    """

    def __init__(self, first: Frame, jpeg: bool):
        self.first, self.jpeg = first, jpeg
        self.typestore: Typestore = get_typestore(Stores.ROS2_KILTED)
        self.with_ground_truth = register_vision_msgs(self.typestore)
        if first.labels is not None and not self.with_ground_truth:
            print("no ground truth: vision_msgs is neither in interfaces nor in a sourced ROS")

    def of(self, frame: Frame, with_transforms: bool) -> Iterator[tuple[int, str, Any]]:
        """The messages of one Frame as (stamp_ns, topic, message)."""
        companion = frame.companion
        stamp = frame.stamp_ns
        if with_transforms:
            earliest = min(stamp, companion.stamp_ns) if companion else stamp
            yield earliest, "/tf_static", self.transforms(earliest)
        if frame.image is not None:
            yield stamp, "/camera/camera_info", self.camera_info(frame.camera, stamp, CAMERA)
            if self.jpeg:
                topic = "/camera/image_raw/compressed"
                yield stamp, topic, self.compressed(frame.image, stamp)
            else:
                yield stamp, "/camera/image_raw", self.image(frame.image, stamp, CAMERA)
        if isinstance(companion, LidarScan):
            yield companion.stamp_ns, "/lidar/points", self.points(companion)
        elif isinstance(companion, ThermalImage):
            at = companion.stamp_ns
            yield at, "/thermal/camera_info", self.camera_info(companion.camera, at, THERMAL)
            yield at, "/thermal/image_raw", self.image(companion.image, at, THERMAL)
        if (
            frame.labels is not None
            and frame.labels.boxes_3d is not None
            and self.with_ground_truth
        ):
            yield stamp, "/ground_truth/detections_3d", self.detections(frame)

    def new(self, kind: str, **fields: Any) -> Any:
        """A message ``package/Name``."""
        return self.typestore.types[kind.replace("/", "/msg/")](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        time = self.new("builtin_interfaces/Time", sec=sec, nanosec=nanosec)
        return self.new("std_msgs/Header", stamp=time, frame_id=frame_id)

    def image(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/Image: rgb8, mono8 or mono16."""
        colour = image.ndim == 3
        return self.new(
            "sensor_msgs/Image",
            header=self.header(stamp_ns, frame_id),
            height=image.shape[0],
            width=image.shape[1],
            encoding="rgb8" if colour else f"mono{8 * image.itemsize}",
            is_bigendian=0,
            step=image[0].nbytes,
            data=np.ascontiguousarray(image).reshape(-1).view(np.uint8),
        )

    def compressed(self, image: np.ndarray, stamp_ns: int) -> Any:
        """sensor_msgs/CompressedImage of an RGB image."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return self.new(
            "sensor_msgs/CompressedImage",
            header=self.header(stamp_ns, CAMERA),
            format="rgb8; jpeg compressed bgr8",
            data=data.reshape(-1),
        )

    def camera_info(self, camera: Camera, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CameraInfo; a pinhole is a plumb_bob without distortion."""
        pinhole = camera.model == "pinhole"
        K = camera.K
        return self.new(
            "sensor_msgs/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob" if pinhole else camera.model,
            d=np.array([0.0] * 5 if pinhole else camera.distortion),
            k=K.reshape(9),
            r=np.eye(3).reshape(9),
            p=np.hstack([K, np.zeros((3, 1))]).reshape(12),
            binning_x=0,
            binning_y=0,
            roi=self.new(
                "sensor_msgs/RegionOfInterest",
                x_offset=0,
                y_offset=0,
                height=0,
                width=0,
                do_rectify=False,
            ),
        )

    def points(self, scan: LidarScan) -> Any:
        """sensor_msgs/PointCloud2 x, y, z, intensity; intensity is 0 where the source has none."""
        cloud = np.zeros((len(scan.points), 4), np.float32)
        columns = min(4, scan.points.shape[1])
        cloud[:, :columns] = scan.points[:, :columns]
        rig = self.first.companion
        if isinstance(rig, LidarScan) and not np.array_equal(
            rig.T_camera_lidar, scan.T_camera_lidar
        ):
            move = inverse(rig.T_camera_lidar) @ scan.T_camera_lidar
            cloud[:, :3] = transform(move, cloud[:, :3].astype(np.float64))
        return self.new(
            "sensor_msgs/PointCloud2",
            header=self.header(scan.stamp_ns, LIDAR),
            height=1,
            width=len(cloud),
            fields=[
                self.new("sensor_msgs/PointField", name=name, offset=4 * i, datatype=7, count=1)
                for i, name in enumerate(("x", "y", "z", "intensity"))
            ],
            is_bigendian=False,
            point_step=16,
            row_step=cloud.nbytes,
            data=cloud.reshape(-1).view(np.uint8),
            is_dense=bool(np.isfinite(cloud[:, :3]).all()),
        )

    def transforms(self, stamp_ns: int) -> Any:
        """tf2_msgs/TFMessage of the first Frame's sensors on base_link."""
        poses = {CAMERA: T_BASE_CAMERA}
        companion = self.first.companion
        if isinstance(companion, LidarScan):
            poses[LIDAR] = T_BASE_CAMERA @ companion.T_camera_lidar
        elif isinstance(companion, ThermalImage):
            poses[THERMAL] = T_BASE_CAMERA @ companion.T_camera_thermal
        return self.new(
            "tf2_msgs/TFMessage",
            transforms=[
                self.new(
                    "geometry_msgs/TransformStamped",
                    header=self.header(stamp_ns, BASE),
                    child_frame_id=child,
                    transform=self.new(
                        "geometry_msgs/Transform",
                        translation=self.xyz("Vector3", T[:3, 3]),
                        rotation=self.quaternion(T[:3, :3]),
                    ),
                )
                for child, T in poses.items()
            ],
        )

    def detections(self, frame: Frame) -> Any:
        """vision_msgs/Detection3DArray of the labels: size x, y, z = length, width, height, the
        orientation turns body axes (x forward, z up) into the box's."""
        header = self.header(frame.stamp_ns, CAMERA)
        assert frame.labels is not None and frame.labels.boxes_3d is not None
        found = []
        boxes = frame.labels.boxes_3d.astype(np.float64)
        for box, name in zip(boxes, frame.labels.class_names, strict=True):
            pose = self.new(
                "geometry_msgs/Pose",
                position=self.xyz("Point", box[:3]),
                orientation=self.quaternion(box_rotation(box[6])),
            )
            size = self.xyz("Vector3", box[3:6])
            hypothesis = self.new("vision_msgs/ObjectHypothesis", class_id=name, score=1.0)
            spread = self.new(
                "geometry_msgs/PoseWithCovariance", pose=pose, covariance=np.zeros(36)
            )
            result = self.new(
                "vision_msgs/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=spread
            )
            bbox = self.new("vision_msgs/BoundingBox3D", center=pose, size=size)
            found.append(
                self.new(
                    "vision_msgs/Detection3D", header=header, results=[result], bbox=bbox, id=""
                )
            )
        return self.new("vision_msgs/Detection3DArray", header=header, detections=found)

    def xyz(self, kind: str, vector: np.ndarray) -> Any:
        """geometry_msgs/Point or Vector3."""
        x, y, z = vector.tolist()
        return self.new(f"geometry_msgs/{kind}", x=x, y=y, z=z)

    def quaternion(self, R: np.ndarray) -> Any:
        """geometry_msgs/Quaternion of a rotation matrix."""
        w, x, y, z = quaternion_from_rotation(R)
        return self.new("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)


def register_vision_msgs(typestore: Typestore) -> bool:
    """Teach the typestore vision_msgs from the .msg files of this checkout or of an installed
    ROS; False where there are none."""
    shares = [Path(p) / "share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    for root in [Path(__file__).resolve().parents[1] / "interfaces", *shares]:
        types: dict[str, Any] = {}
        for file in sorted((root / "vision_msgs" / "msg").glob("*.msg")):
            types.update(get_types_from_msg(file.read_text(), f"vision_msgs/msg/{file.stem}"))
        if types:
            typestore.register(types)
            return True
    return False


def _qos(latched: bool) -> Qos:
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
