"""The Argoverse 2 sensor dataset as Frames, read with pyarrow alone.

A Frame is a sweep with the image of one camera nearest to it in time. Points and boxes are in the
vehicle's frame at the sweep's stamp; the vehicle moves until the image is taken, so points travel
vehicle(sweep) -> city -> vehicle(image) -> camera; that chain is the Frame's ``T_camera_lidar``.

Images are undistorted as they are published; ``k1`` to ``k3`` of the calibration describe the lens
that they came through, and are not applied.

Format: Wilson et al., NeurIPS Datasets and Benchmarks 2021, and the user guide of
github.com/argoverse/av2-api (datasets/sensor.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.annotations import NORM_TOLERANCE, Annotations, visible_labels
from lemumo_core.data.sources.feather import Columns, read_columns, require_pyarrow
from lemumo_core.data.sources.files import (
    existing,
    read_calibrated_image,
    warn_of_unpaired,
)
from lemumo_core.data.sources.recently_used import RecentlyUsed
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, rotation_from_quaternion

LAYOUT = (
    "[SPLIT/]LOG/{sensors/lidar/STAMP.feather, sensors/cameras/CAMERA/STAMP.jpg, "
    "calibration/{egovehicle_SE3_sensor,intrinsics}.feather, city_SE3_egovehicle.feather"
    "[, annotations.feather]}"
)
STEREO = ("stereo_front_left", "stereo_front_right")
SPLITS = ("train", "val", "test")
RING = ("front_center", "front_right", "side_right", "rear_right")
CAMERAS = tuple(f"ring_{where}" for where in (*RING, "rear_left", "side_left", "front_left"))
"""The seven cameras around the vehicle, clockwise."""
TOLERANCE_NS = 50_000_000
"""An image is this far from a sweep at most; cameras take one every 50 ms."""
POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
INTRINSICS = ("fx_px", "fy_px", "cx_px", "cy_px", "width_px", "height_px")
POINT = ("x", "y", "z", "intensity", "laser_number")
SIZE = ("length_m", "width_m", "height_m")


class Argoverse2:
    """Sweeps of the logs, each with the image of every camera, in order of log, time and camera.

    Args:
        root: folder that holds the splits, or the logs.
        split: ``train``, ``val`` or ``test``; None where ``root`` holds the logs themselves.
        cameras: of ``CAMERAS``, ``stereo_front_left`` and ``stereo_front_right``, or one of them.

    Each Frame has a LidarScan of both LiDARs in the vehicle's frame (x, y, z, intensity 0 to 255,
    number of the beam), its pose in the city's frame and, where the log is annotated, Labels with
    3D boxes, their tracks and LiDAR point counts; which are kept: see ``visible_labels``. Class
    names are those of the data set; ``--classes argoverse2`` are all of them.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``bad_split``, ``unknown_camera``, ``bad_table``, ``bad_labels`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        cameras: str | Sequence[str] = CAMERAS,
    ):
        require_pyarrow()
        if split is not None and split not in SPLITS:
            raise Fault("bad_split", f"split is '{split}', must be one of {', '.join(SPLITS)}")
        self.root, self.split = Path(root), split
        self.cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        if unknown := [name for name in self.cameras if name not in (*CAMERAS, *STEREO)]:
            raise Fault(
                "unknown_camera", f"{unknown[0]} is none of {', '.join((*CAMERAS, *STEREO))}"
            )
        folder = existing(self.root if split is None else self.root / split, LAYOUT)
        self.logs = sorted(path.parent for path in folder.glob("*/sensors"))
        if not self.logs:
            raise FileNotFoundError(f"{folder} holds no logs; expected {LAYOUT}")
        self._unpaired: list[str] = []
        self.frames: list[tuple[int, int, int, int]] = []
        """Number of the log, stamp of the sweep, number of the camera, stamp of its image."""
        for number, log in enumerate(self.logs):
            self.frames += [(number, *shot) for shot in self._shots(log)]
        if not self.frames:
            raise Fault(
                "unknown_camera",
                f"{folder} has no image of {', '.join(self.cameras)} near a sweep: are the cameras "
                "downloaded?",
            )
        warn_of_unpaired(folder, self._unpaired, len(self.frames) + len(self._unpaired))
        self._opened = RecentlyUsed(_Log, self.logs)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        number, sweep_ns, camera_number, image_ns = self.frames[index]
        name, log = self.cameras[camera_number], self._opened[number]
        camera, T_ego_camera = log.camera(name)
        path = log.folder / "sensors" / "cameras" / name / f"{image_ns}.jpg"
        image = read_calibrated_image(path, camera.width, camera.height)
        T_city_camera = log.T_city_ego(image_ns) @ T_ego_camera
        T_camera_ego = inverse(T_city_camera) @ log.T_city_ego(sweep_ns)
        boxes, labels = log.boxes(sweep_ns), None
        if boxes is not None:
            with contents_of(log.folder / "annotations.feather"):
                labels = visible_labels(boxes, T_camera_ego, camera)
        return Frame(
            stamp_ns=image_ns,
            camera_name=name,
            camera=camera,
            image=image,
            companion=LidarScan(log.points(sweep_ns), T_camera_ego, sweep_ns),
            labels=labels,
            T_fixed_camera=T_city_camera,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "argoverse2",
            "root": str(self.root),
            "split": self.split,
            "cameras": list(self.cameras),
            "logs": len(self.logs),
            "frames": len(self),
        }

    def _shots(self, log: Path) -> list[tuple[int, int, int]]:
        """Return stamp of the sweep, number of the camera and stamp of its image, in order."""
        sweeps = _stamps(log / "sensors" / "lidar", "feather")
        shots = []
        for number, name in enumerate(self.cameras):
            images = _stamps(log / "sensors" / "cameras" / name, "jpg")
            if len(images) and not len(sweeps):
                self._unpaired.append(f"{log.name}/{name}, which has no sweep")
            for sweep in sweeps:
                gaps = np.abs(images - sweep)
                if len(gaps) and gaps.min() <= TOLERANCE_NS:
                    shots.append((int(sweep), number, int(images[gaps.argmin()])))
                else:
                    self._unpaired.append(f"{log.name}/{name} of {sweep} ns")
        return sorted(shots)


class _Log:
    """Tables of a log."""

    def __init__(self, folder: Path):
        self.folder = folder

    def camera(self, name: str) -> tuple[Camera, np.ndarray]:
        """Return the model of a camera, and its pose on the vehicle."""
        sensors, lenses = self._mounts["sensor_name"], self._intrinsics["sensor_name"]
        if name not in sensors or name not in lenses:
            raise Fault(
                "bad_table",
                f"{self.folder}/calibration does not calibrate {name}, as that of some logs: leave "
                f"it out of cameras; it has {', '.join(np.intersect1d(sensors, lenses))}",
            )
        row = int(np.flatnonzero(lenses == name)[0])
        with contents_of(self.folder / "calibration" / "intrinsics.feather"):
            fx, fy, cx, cy, *size = (float(self._intrinsics[key][row]) for key in INTRINSICS)
            K = [fx, 0, cx, 0, fy, cy, 0, 0, 1]
            camera = Camera.from_calibration(int(size[0]), int(size[1]), K, "pinhole", [])
        return camera, self._T(self._mounts, int(np.flatnonzero(sensors == name)[0]))

    def T_city_ego(self, stamp_ns: int) -> np.ndarray:
        """Return the pose of the vehicle at the stamp of a sensor."""
        rows = np.flatnonzero(self._poses["timestamp_ns"] == stamp_ns)
        if not len(rows):
            raise Fault(
                "bad_table",
                f"{self.folder}/city_SE3_egovehicle.feather has no pose at {stamp_ns} ns: is the "
                "download complete?",
            )
        return self._T(self._poses, int(rows[0]))

    def points(self, stamp_ns: int) -> np.ndarray:
        """Return the points of a sweep, float32 (N, 5)."""
        path = self.folder / "sensors" / "lidar" / f"{stamp_ns}.feather"
        sweep = read_columns(path, POINT, LAYOUT)
        return np.stack([sweep[name].astype(np.float32) for name in POINT], axis=1)

    def boxes(self, stamp_ns: int) -> Annotations | None:
        """Return the boxes of a sweep, in its vehicle frame; None where nothing is annotated."""
        table = self._annotations
        if table is None:
            return None
        rows = np.flatnonzero(table["timestamp_ns"] == stamp_ns)
        poses = np.stack([table[name][rows] for name in (*POSE[4:], *POSE[:4])], axis=1)
        sizes = np.stack([table[name][rows] for name in SIZE], axis=1)
        return Annotations(
            poses=poses.astype(np.float64),
            sizes=sizes.astype(np.float64),
            names=tuple(str(name) for name in table["category"][rows]),
            num_points=table["num_interior_pts"][rows].astype(np.int32),
            track_ids=tuple(str(name) for name in table["track_uuid"][rows]),
        )

    @cached_property
    def _mounts(self) -> Columns:
        path = self.folder / "calibration" / "egovehicle_SE3_sensor.feather"
        return read_columns(path, ("sensor_name", *POSE), LAYOUT)

    @cached_property
    def _intrinsics(self) -> Columns:
        path = self.folder / "calibration" / "intrinsics.feather"
        return read_columns(path, ("sensor_name", *INTRINSICS), LAYOUT)

    @cached_property
    def _poses(self) -> Columns:
        path = self.folder / "city_SE3_egovehicle.feather"
        return read_columns(path, ("timestamp_ns", *POSE), LAYOUT)

    @cached_property
    def _annotations(self) -> Columns | None:
        path = self.folder / "annotations.feather"
        if not path.exists():
            return None
        names = ("timestamp_ns", "track_uuid", "category", *SIZE, *POSE, "num_interior_pts")
        return read_columns(path, names, LAYOUT)

    def _T(self, table: Columns, row: int) -> np.ndarray:
        pose = np.array([table[name][row] for name in POSE], np.float64)
        if not np.isfinite(pose).all() or not abs(pose[:4] @ pose[:4] - 1) <= NORM_TOLERANCE:
            raise Fault("bad_table", f"{self.folder} holds a pose that is none: {pose.tolist()}")
        # Published quaternions are rounded to six places
        return make_T(rotation_from_quaternion(*(pose[:4] / np.linalg.norm(pose[:4]))), pose[4:])


def _stamps(folder: Path, suffix: str) -> np.ndarray:
    """Return the stamps that files are named by, int64, rising; none without the folder."""
    found = (path.stem for path in folder.glob(f"*.{suffix}"))
    return np.array(sorted(int(name) for name in found if name.isdigit()), np.int64)
