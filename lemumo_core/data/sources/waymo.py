"""Waymo Open Dataset v2 (parquet) as Frames, read with pyarrow alone.

All points of a frame belong to the vehicle at the frame's time; each camera looks from the vehicle
at its own, slightly different time. So points travel vehicle(t_frame) -> world ->
vehicle(t_camera) -> camera; that chain is the Frame's ``T_camera_lidar``. A camera's pose is the
one given with its image, held for the whole of it: rolling shutter is not modelled.

Waymo's camera frame is x forward, y left, z up, and its pixel (0, 0) is the *corner* of the top
left pixel; Frames have an optical frame and pixel centres.

Format: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.data.sources.nuscenes import Annotations, visible_labels
from lemumo_core.data.sources.waymo_range_image import (
    TIMESTAMP,
    Table,
    lidar_points,
    open_table,
    require_pyarrow,
    rigid,
)
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T
from lemumo_core.taxonomy import SEGMENTATION_IDS

COMPONENTS = {
    "camera_image": "CameraImageComponent",
    "camera_calibration": "CameraCalibrationComponent",
    "lidar": "LiDARComponent",
    "lidar_calibration": "LiDARCalibrationComponent",
    "lidar_pose": "LiDARPoseComponent",
    "vehicle_pose": "VehiclePoseComponent",
    "lidar_box": "LiDARBoxComponent",
    "camera_segmentation": "CameraSegmentationLabelComponent",
}
"""Folder to the name that its columns carry."""
OPTIONAL = ("lidar_box", "camera_segmentation")
REQUIRED = tuple(name for name in COMPONENTS if name not in OPTIONAL)
LAYOUT = (
    f"ROOT[/SPLIT]/{{{', '.join(REQUIRED)}[, {', '.join(OPTIONAL)}]}}/SEGMENT.parquet "
    "of the Waymo Open Dataset v2"
)
CAMERAS = {"FRONT": 1, "FRONT_LEFT": 2, "FRONT_RIGHT": 3, "SIDE_LEFT": 4, "SIDE_RIGHT": 5}
BOX_TYPES = {1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
SEGMENTATION = {
    2: "car",
    3: "large_vehicle",  # truck
    4: "large_vehicle",  # bus
    5: "large_vehicle",  # other
    6: "two_wheeler",  # bicycle
    7: "two_wheeler",  # motorcycle
    8: "large_vehicle",  # trailer
    9: "pedestrian",
    10: "two_wheeler",  # cyclist
    11: "two_wheeler",  # motorcyclist
    15: "pole",
    17: "sign",
    19: "building",
    20: "road",
    21: "road",  # lane marker
    22: "road",  # other marking
    23: "sidewalk",
    24: "vegetation",
    25: "sky",
    26: "terrain",  # other ground
}
"""CameraSegmentation.Type to our classes. Left unlabelled: undefined, the ego vehicle, animals,
cones, things that people carry, traffic lights, and other objects."""
LABEL_IDS = np.full(30, UNLABELLED, np.uint8)
"""Waymo's class to our id; the last entry stands for all larger numbers."""
for _waymo, _ours in SEGMENTATION.items():
    LABEL_IDS[_waymo] = SEGMENTATION_IDS[_ours]

CAMERA = "key.camera_name"
INTRINSIC = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
BOX_FIELDS = (
    *(f"box.{part}.{axis}" for part in ("center", "size") for axis in "xyz"),
    "box.heading",
    "num_lidar_points_in_box",
    "type",
)
R_OPTICAL_SENSOR = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""x forward, y left, z up to x right, y down, z forward."""


class Waymo:
    """One Frame per image of each segment, with the points of all five LiDARs; ordered by segment,
    by time and then as ``cameras`` is.

    Args:
        root: folder that holds the component folders, or the splits.
        split: ``training``, ``validation`` or ``testing``; None where ``root`` is one itself.
        cameras: keys of ``CAMERAS``, or one of them.
        returns: which LiDAR returns to read, of (1, 2).

    Each Frame has a LidarScan in the vehicle frame (x, y, z, intensity as recorded: mostly 0..1,
    without an upper limit) at the frame's time, and is stamped with the time of its camera pose.

    Where the files exist, Labels hold boxes (vehicle, pedestrian, sign, cyclist, at the time of
    the points) with their numbers of points, and segmentation, which Waymo gives for some images
    only. A box is kept as in ``NuScenes``. ``instance_map`` is unique within its image.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: a missing file or folder, with the expected layout.
        Fault: ``unknown_camera``, ``unknown_return``, ``bad_table``, ``bad_camera``,
            ``bad_calibration``, ``bad_transform``, ``bad_points`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        cameras: str | Sequence[str] = tuple(CAMERAS),
        returns: Sequence[int] = (1, 2),
    ):
        require_pyarrow()
        self.root, self.split = Path(root), split
        self.cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        self.returns = tuple(returns)
        if not self.cameras or not {*self.cameras} <= {*CAMERAS}:
            raise Fault("unknown_camera", f"cameras {self.cameras}; Waymo has {', '.join(CAMERAS)}")
        if not self.returns or not {*self.returns} <= {1, 2}:
            raise Fault("unknown_return", f"returns {self.returns} must be of 1 and 2")
        self.folder = self.root / split if split else self.root
        self.segments = _segments(self.folder)
        order = {CAMERAS[name]: place for place, name in enumerate(self.cameras)}
        frames = []
        for number, segment in enumerate(self.segments):
            for component in REQUIRED:
                existing(self.folder / component / f"{segment}.parquet", LAYOUT)
            shots = self._table("camera_image", segment).index(TIMESTAMP, CAMERA)
            frames += [(number, time, order[camera]) for time, camera in shots if camera in order]
        if not frames:
            raise Fault("unknown_camera", f"{self.folder} has no image of {self.cameras}")
        self.frames = np.array(sorted(frames), np.int64)
        """Segment, time (microseconds) and place in ``cameras``."""
        self._scan: tuple[tuple[int, int], np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scan": None}

    def __len__(self) -> int:
        return len(self.frames)

    def describe(self) -> dict[str, Any]:
        return {
            "source": "waymo",
            "root": str(self.root),
            "split": self.split,
            "cameras": list(self.cameras),
            "returns": list(self.returns),
            "segments": len(self.segments),
            "frames": len(self),
        }

    def __getitem__(self, index: int) -> Frame:
        number, time, place = self.frames[index].tolist()
        segment, name = self.segments[number], self.cameras[place]
        table = self._table("camera_image", segment)
        shot = table.row(
            {TIMESTAMP: time, CAMERA: CAMERAS[name]}, "image", "pose.transform", "pose_timestamp"
        )
        camera, T_vehicle_camera = self._camera(segment, CAMERAS[name])
        T_world_frame = self._T_world_vehicle(segment, time)
        T_world_camera = rigid(shot["pose.transform"], table) @ T_vehicle_camera
        T_camera_frame = inverse(T_world_camera) @ T_world_frame
        if self._scan is None or self._scan[0] != (number, time):
            self._scan = (
                (number, time),
                lidar_points(
                    self._table("lidar", segment),
                    self._table("lidar_calibration", segment),
                    self._table("lidar_pose", segment),
                    time,
                    self.returns,
                    T_world_frame,
                ),
            )
        return Frame(
            stamp_ns=round(shot["pose_timestamp"] * 1e6) * 1000,
            camera_name=name,
            camera=camera,
            image=_decode(shot["image"], cv2.IMREAD_COLOR_RGB, camera, table),
            companion=LidarScan(
                points=self._scan[1].copy(),
                T_camera_lidar=T_camera_frame,
                stamp_ns=time * 1000,
            ),
            labels=self._labels(segment, time, CAMERAS[name], T_camera_frame, camera),
        )

    def _table(self, component: str, segment: str) -> Table:
        path = existing(self.folder / component / f"{segment}.parquet", LAYOUT)
        return open_table(path, COMPONENTS[component])

    def _camera(self, segment: str, number: int) -> tuple[Camera, np.ndarray]:
        """Model of a camera and its pose on the vehicle, T_vehicle_camera (optical)."""
        table = self._table("camera_calibration", segment)
        intrinsic = [f"intrinsic.{name}" for name in INTRINSIC]
        row = table.row({CAMERA: number}, "width", "height", "extrinsic.transform", *intrinsic)
        fx, fy, cx, cy, *distortion = (row[name] for name in intrinsic)
        K = [fx, 0, cx - 0.5, 0, fy, cy - 0.5, 0, 0, 1]
        camera = Camera.from_calibration(row["width"], row["height"], K, "plumb_bob", distortion)
        T_sensor_optical = make_T(R_OPTICAL_SENSOR.T, np.zeros(3))
        return camera, rigid(row["extrinsic.transform"], table) @ T_sensor_optical

    def _T_world_vehicle(self, segment: str, time: int) -> np.ndarray:
        table = self._table("vehicle_pose", segment)
        row = table.row({TIMESTAMP: time}, "world_from_vehicle.transform")
        return rigid(row["world_from_vehicle.transform"], table)

    def _labels(
        self, segment: str, time: int, number: int, T_camera_vehicle: np.ndarray, camera: Camera
    ) -> Labels | None:
        labels = None
        if self._has("lidar_box", segment):
            boxes = self._boxes(segment, time)
            labels = replace(visible_labels(boxes, T_camera_vehicle, camera), visibility=None)
        if self._has("camera_segmentation", segment):
            table = self._table("camera_segmentation", segment)
            key = {TIMESTAMP: time, CAMERA: number}
            for row in table.rows(key, "panoptic_label", "panoptic_label_divisor"):
                panoptic = _decode(row["panoptic_label"], cv2.IMREAD_UNCHANGED, camera, table)
                classes, instances = np.divmod(panoptic, row["panoptic_label_divisor"])
                labels = replace(
                    labels or Labels(),
                    label_map=LABEL_IDS[np.minimum(classes, len(LABEL_IDS) - 1)],
                    instance_map=np.where(instances > 0, panoptic, 0).astype(np.uint16),
                )
        return labels

    def _has(self, component: str, segment: str) -> bool:
        return (self.folder / component / f"{segment}.parquet").exists()

    def _boxes(self, segment: str, time: int) -> Annotations:
        """Boxes in the vehicle frame, which stands in for the world here."""
        table = self._table("lidar_box", segment)
        rows = table.rows({TIMESTAMP: time}, *BOX_FIELDS)
        values = np.zeros((len(rows), 12))
        for value, row in zip(values, rows, strict=True):
            x, y, z, length, width, height, heading, points, _ = row.values()
            turn = np.cos(heading / 2), 0, 0, np.sin(heading / 2)
            value[:] = [x, y, z, width, length, height, *turn, 0, points]
        return Annotations(values, tuple(BOX_TYPES.get(row["type"], "unknown") for row in rows))


def _segments(folder: Path) -> list[str]:
    """Names of all segments that have images."""
    images = folder / "camera_image"
    if not images.exists() and next(folder.glob("*.tfrecord"), None):
        raise FileNotFoundError(
            f"{folder} holds .tfrecord files, version 1 of the data set; expected {LAYOUT}"
        )
    existing(images, LAYOUT)
    names = sorted(path.stem for path in images.glob("*.parquet"))
    if not names:
        raise FileNotFoundError(f"no *.parquet in {images}; expected {LAYOUT}")
    return names


def _decode(data: bytes, flags: int, camera: Camera, table: Table) -> np.ndarray:
    """Image as large as the camera's: (H, W, 3) RGB, or (H, W) for ``IMREAD_UNCHANGED``."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise Fault("bad_image", f"{table.path} holds an image that OpenCV cannot decode")
    expected = (camera.height, camera.width, 3)[: 3 if flags == cv2.IMREAD_COLOR_RGB else 2]
    if image.shape != expected:
        raise Fault(
            "bad_image", f"{table.path} holds an image of shape {image.shape}; expected {expected}"
        )
    return image
