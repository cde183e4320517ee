"""Waymo Open Dataset v2 (parquet) as Frames, read with pyarrow alone.

A frame is one turn of the top LiDAR; its key is the time at which that turn starts. All its
points and boxes belong to the vehicle at one pose, that of the middle of the turn; each camera
looks from the vehicle at its own pose, that of the middle of its image. So points travel
vehicle(frame) -> world -> vehicle(camera) -> camera; that chain is the Frame's
``T_camera_lidar``. Rolling shutter is not modelled: the pose is held for the whole image.

Waymo's camera frame is x forward, y left, z up, and its pixel (0, 0) is the *corner* of the top
left pixel; Frames have an optical frame and pixel centres.

Format: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2; on the times also
its issues 55, 70 and 541.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.data.sources.files import existing
from lemumo_core.data.sources.waymo_labels import (
    LABEL_NAMES,
    PANOPTIC,
    segmentation,
    vehicle_boxes,
)
from lemumo_core.data.sources.waymo_range_image import lidar_points
from lemumo_core.data.sources.waymo_table import (
    CAMERA,
    TIMESTAMP,
    Row,
    Table,
    decode_image,
    require_pyarrow,
    rigid,
)
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T

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
INTRINSIC = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
IMAGE = ("image", "pose.transform", "pose_timestamp")
R_OPTICAL_SENSOR = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""x forward, y left, z up to x right, y down, z forward."""


class Moment(NamedTuple):
    """Readings that the cameras of one frame share.

    Attributes:
        points: float32 (N, 4) x, y, z, intensity in the vehicle frame.
        T_world_vehicle: (4, 4), pose of the frame.
        shots: camera number to its row of ``camera_image``.
        boxes: in the vehicle frame; None where there is no such file.
        panoptic: camera number to its row of ``camera_segmentation``, where there is one.
    """

    points: np.ndarray
    T_world_vehicle: np.ndarray
    shots: dict[int, Row]
    boxes: Annotations | None
    panoptic: dict[int, Row]


class Waymo:
    """One Frame per image of each segment, with the points of all five LiDARs.

    They are ordered by segment, by time and then as ``cameras`` is.

    Args:
        root: folder that holds the component folders, or the splits.
        split: ``training``, ``validation`` or ``testing``; None where ``root`` is one itself.
        cameras: keys of ``CAMERAS``, or one of them.
        returns: which LiDAR returns to read, of (1, 2).

    Each Frame is stamped with the time of its camera's pose. Its LidarScan is in the vehicle frame
    (x, y, z, intensity as recorded: mostly 0..1, without an upper limit) and is stamped with the
    frame's key.

    Where the files exist, Labels hold boxes (vehicle, pedestrian, sign, cyclist; which are kept:
    see ``visible_labels``) with their numbers of points, and segmentation, which Waymo gives for
    some images only. ``instance_map`` is unique within its image.

    Reading in order is fast. A jump decodes the row group up to the frame: seconds with the public
    files, whose row groups are 50 frames long; rewrite them with row groups of one frame (pyarrow's
    ``row_group_size=5``) to shuffle them directly.

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
        order = {CAMERAS[name]: position for position, name in enumerate(self.cameras)}
        frames = []
        for number, segment in enumerate(self.segments):
            for component in REQUIRED:
                existing(self._path(component, segment), LAYOUT)
            images = Table(self._path("camera_image", segment), COMPONENTS["camera_image"])
            shots = images.index(TIMESTAMP, CAMERA)
            frames += [(number, time, order[camera]) for time, camera in shots if camera in order]
        if not frames:
            raise Fault("unknown_camera", f"{self.folder} has no image of {self.cameras}")
        self.frames = np.array(sorted(frames), np.int64)
        """Segment, time (microseconds) and index into ``cameras``."""
        self._forget()

    def _forget(self) -> None:
        """Drop what the last Frame left for the next: open tables, and the moment."""
        self._tables: tuple[int, dict[str, Table]] = (-1, {})
        self._moment: tuple[int, Moment] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_tables", "_moment")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return len(self.frames)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
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
        number, time, position = self.frames[index].tolist()
        name = self.cameras[position]
        tables = self._open(number)
        moment = self._read(tables, time)
        shot = moment.shots[CAMERAS[name]]
        images = tables["camera_image"]
        camera, T_vehicle_camera = _camera(tables["camera_calibration"], CAMERAS[name])
        T_world_camera = rigid(shot["pose.transform"], images) @ T_vehicle_camera
        T_camera_vehicle = inverse(T_world_camera) @ moment.T_world_vehicle
        labels = None
        if moment.boxes is not None:
            labels = visible_labels(moment.boxes, T_camera_vehicle, camera)
        if CAMERAS[name] in moment.panoptic:
            table = tables["camera_segmentation"]
            classes, objects = segmentation(moment.panoptic[CAMERAS[name]], camera, table)
            labels = replace(
                labels or Labels(),
                label_map=classes,
                instance_map=objects,
                label_names=LABEL_NAMES,
            )
        return Frame(
            stamp_ns=round(shot["pose_timestamp"] * 1e6) * 1000,
            camera_name=name,
            camera=camera,
            image=decode_image(shot["image"], cv2.IMREAD_COLOR_RGB, camera, images),
            companion=LidarScan(
                points=moment.points.copy(),
                T_camera_lidar=T_camera_vehicle,
                stamp_ns=time * 1000,
            ),
            labels=labels,
            T_fixed_camera=T_world_camera,
        )

    def _path(self, component: str, segment: str) -> Path:
        return self.folder / component / f"{segment}.parquet"

    def _open(self, number: int) -> dict[str, Table]:
        """Open the tables of a segment, by component."""
        if self._tables[0] != number:
            segment = self.segments[number]
            paths = {component: self._path(component, segment) for component in COMPONENTS}
            tables = {
                component: Table(existing(path, LAYOUT), COMPONENTS[component])
                for component, path in paths.items()
                if component in REQUIRED or path.exists()
            }
            self._tables, self._moment = (number, tables), None
        return self._tables[1]

    def _read(self, tables: dict[str, Table], time: int) -> Moment:
        if self._moment is None or self._moment[0] != time:
            column = "world_from_vehicle.transform"
            pose = tables["vehicle_pose"].row(TIMESTAMP, time, column)
            T_world_vehicle = rigid(pose[column], tables["vehicle_pose"])
            moment = Moment(
                points=lidar_points(
                    tables["lidar"],
                    tables["lidar_calibration"],
                    tables["lidar_pose"],
                    time,
                    self.returns,
                    T_world_vehicle,
                ),
                T_world_vehicle=T_world_vehicle,
                shots=_by_camera(tables["camera_image"], time, *IMAGE),
                boxes=vehicle_boxes(tables["lidar_box"], time) if "lidar_box" in tables else None,
                panoptic=(
                    _by_camera(tables["camera_segmentation"], time, *PANOPTIC)
                    if "camera_segmentation" in tables
                    else {}
                ),
            )
            self._moment = time, moment
        return self._moment[1]


def _segments(folder: Path) -> list[str]:
    """Return the names of all segments that have images."""
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


def _by_camera(table: Table, time: int, *columns: str) -> dict[int, Row]:
    return {row[CAMERA]: row for row in table.rows(TIMESTAMP, time, CAMERA, *columns)}


def _camera(table: Table, number: int) -> tuple[Camera, np.ndarray]:
    """Return the model of a camera and its pose on the vehicle, T_vehicle_camera (optical)."""
    intrinsic = [f"intrinsic.{name}" for name in INTRINSIC]
    row = table.row(CAMERA, number, "width", "height", "extrinsic.transform", *intrinsic)
    fx, fy, cx, cy, *distortion = (row[name] for name in intrinsic)
    K = [fx, 0, cx - 0.5, 0, fy, cy - 0.5, 0, 0, 1]
    camera = Camera.from_calibration(row["width"], row["height"], K, "plumb_bob", distortion)
    T_sensor_optical = make_T(R_OPTICAL_SENSOR.T, np.zeros(3))
    return camera, rigid(row["extrinsic.transform"], table) @ T_sensor_optical
