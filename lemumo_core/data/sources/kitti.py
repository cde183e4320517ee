"""KITTI as Frames: the object benchmark and raw drives, read straight from the official layouts.

The camera is image_02 or image_03 (left and right colour) as a pinhole with K = P[:, :3] of its
P2 or P3. P's fourth column, the baseline to the reference camera, is folded into
``T_camera_lidar`` and into the boxes, so that

    K @ (T_camera_lidar @ [X; 1])  equals  P @ R0_rect @ Tr_velo_to_cam @ [X; 1].

Formats: the readme.txt of KITTI's object and raw development kits (Geiger et al., IJRR 2013).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    existing,
    made_up_stamp,
    positive_rate,
    read_image,
    read_points,
)
from lemumo_core.data.sources.kitti_files import baseline, matrix, read_calibration, read_labels
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, transform

OBJECT_LAYOUT = "SPLIT/{image_2|image_3/*.png, velodyne/*.bin, calib/*.txt[, label_2/*.txt]}"
RAW_LAYOUT = (
    "{image_02|image_03/data/*.png, velodyne_points/data/*.bin} with calib_cam_to_cam.txt and "
    "calib_velo_to_cam.txt in the same folder or its parent"
)
ANNOTATED = "image_02"
"""The camera whose image was annotated."""


class KittiObject:
    """Frames of the KITTI object benchmark; consecutive frames are unrelated.

    Args:
        root: folder that holds ``training``.
        split: ``training`` or ``testing``; without a ``label_2`` folder labels are None.
        rate_hz: stamps are made up at this rate, the data set has none.
        camera: 2 (left colour) or 3 (right colour).

    Each Frame has a LidarScan (x, y, z, reflectance 0..1) and Labels with 3D boxes, 2D boxes,
    lower-cased KITTI class names, visibility (``kitti_files.VISIBILITY``) and LiDAR point counts;
    ``DontCare`` regions are left out. KITTI annotates the left image: for the right one 2D boxes
    are projected from the 3D ones, and objects that it does not show are left out.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_calibration``, ``bad_labels``, ``bad_points`` or
            ``bad_image``.
    """

    def __init__(
        self, root: str | Path, split: str = "training", rate_hz: float = 2.0, camera: int = 2
    ):
        self.root, self.split = Path(root), split
        self.folder = self.root / split
        self.camera_name = _camera_name(camera)
        self.projection = f"P{camera}"
        self.images = existing(self.folder / f"image_{camera}", OBJECT_LAYOUT)
        existing(self.folder / "velodyne", OBJECT_LAYOUT)
        existing(self.folder / "calib", OBJECT_LAYOUT)
        self.names = _stems(self.images, "*.png", OBJECT_LAYOUT)
        self.labelled = (self.folder / "label_2").is_dir()
        self.rate_hz = positive_rate(rate_hz)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        name = self.names[index]
        stamp_ns = made_up_stamp(range(len(self))[index], self.rate_hz)
        calib_file = self.folder / "calib" / f"{name}.txt"
        calib = read_calibration(calib_file)
        P = matrix(calib, self.projection, (3, 4), calib_file)
        T_rect_lidar = make_T(
            matrix(calib, "R0_rect", (3, 3), calib_file), np.zeros(3)
        ) @ np.vstack([matrix(calib, "Tr_velo_to_cam", (3, 4), calib_file), [0, 0, 0, 1]])
        return _frame(
            self.camera_name,
            self.images / f"{name}.png",
            self.folder / "velodyne" / f"{name}.bin",
            P,
            T_rect_lidar,
            (stamp_ns, stamp_ns),
            self.folder / "label_2" / f"{name}.txt" if self.labelled else None,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "kitti",
            "root": str(self.root),
            "split": self.split,
            "camera": self.camera_name,
            "frames": len(self),
        }


class KittiRaw:
    """Frames of one synced and rectified KITTI raw drive; no labels.

    Args:
        root: the drive, e.g. ``2011_09_26/2011_09_26_drive_0001_sync``, or a date folder that
            holds the sensor folders itself.
        rate_hz: stamps are made up at this rate, shared by image and LiDAR, where the folders of
            a sensor have no ``timestamps.txt``; KITTI recorded at 10 Hz.
        camera: 2 (left colour) or 3 (right colour).

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_calibration``, ``bad_timestamps``, ``bad_points`` or
            ``bad_image``.
    """

    def __init__(self, root: str | Path, rate_hz: float = 10.0, camera: int = 2):
        self.folder = Path(root)
        self.camera_name = _camera_name(camera)
        self.images = existing(self.folder / self.camera_name / "data", RAW_LAYOUT)
        existing(self.folder / "velodyne_points" / "data", RAW_LAYOUT)
        self.names = _stems(self.images, "*.png", RAW_LAYOUT)

        cam_file, velo_file = map(
            self._calibration, ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")
        )
        cam, velo = read_calibration(cam_file), read_calibration(velo_file)
        self.P = matrix(cam, f"P_rect_0{camera}", (3, 4), cam_file)
        rectify = make_T(matrix(cam, "R_rect_00", (3, 3), cam_file), np.zeros(3))
        self.T_rect_lidar = rectify @ make_T(
            matrix(velo, "R", (3, 3), velo_file), matrix(velo, "T", (3,), velo_file)
        )
        sensors = self.camera_name, "velodyne_points"
        self.stamps = list(
            zip(*(self._stamps(sensor, positive_rate(rate_hz)) for sensor in sensors), strict=True)
        )

    def _calibration(self, name: str) -> Path:
        beside = self.folder / name
        return beside if beside.exists() else existing(self.folder.parent / name, RAW_LAYOUT)

    def _stamps(self, sensor: str, rate_hz: float) -> list[int]:
        """Return the stamps (ns) of every frame.

        File names are indices into ``timestamps.txt``, since single frames are missing from some
        drives.
        """
        file = self.folder / sensor / "timestamps.txt"
        if not file.exists():
            return [made_up_stamp(i, rate_hz) for i in range(len(self.names))]
        try:
            times = np.array(file.read_text().splitlines(), "datetime64[ns]").astype(np.int64)
            return [int(times[int(name)]) for name in self.names]
        except (ValueError, IndexError) as error:
            raise Fault("bad_timestamps", f"{file} does not time every image: {error}") from None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        name = self.names[index]
        return _frame(
            self.camera_name,
            self.images / f"{name}.png",
            self.folder / "velodyne_points" / "data" / f"{name}.bin",
            self.P,
            self.T_rect_lidar,
            self.stamps[index],
            None,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "kitti-raw",
            "root": str(self.folder),
            "camera": self.camera_name,
            "frames": len(self),
        }


def _frame(
    camera_name: str,
    image_file: Path,
    points_file: Path,
    P: np.ndarray,
    T_rect_lidar: np.ndarray,
    stamps: tuple[int, int],
    labels_file: Path | None,
) -> Frame:
    image = read_image(image_file)
    height, width = image.shape[:2]
    camera = Camera.from_calibration(width, height, P[:, :3], "pinhole", [])
    points = read_points(points_file, 4)
    T_camera_lidar = make_T(np.eye(3), baseline(P)) @ T_rect_lidar
    labels = None
    if labels_file is not None:
        in_camera = transform(T_camera_lidar, points[:, :3].astype(np.float64))
        other = None if camera_name == ANNOTATED else camera
        labels = read_labels(labels_file, baseline(P), in_camera, other)
    return Frame(
        stamp_ns=stamps[0],
        camera_name=camera_name,
        camera=camera,
        image=image,
        companion=LidarScan(points, T_camera_lidar, stamps[1]),
        labels=labels,
    )


def _camera_name(camera: int) -> str:
    if camera not in (2, 3):
        raise Fault("unknown_camera", f"camera {camera}: KITTI's colour cameras are 2 and 3")
    return f"image_0{camera}"


def _stems(folder: Path, pattern: str, layout: str) -> list[str]:
    names = sorted(path.stem for path in folder.glob(pattern))
    if not names:
        raise FileNotFoundError(f"no {pattern} in {folder}; expected {layout}")
    return names
