"""KITTI as Frames: the object benchmark and raw drives, read straight from the official layouts.

The camera is image_02 (left colour) as a pinhole with K = P2[:, :3]. P2's fourth column, the
baseline to the reference camera, is folded into ``T_camera_lidar`` and into the boxes, so that

    K @ (T_camera_lidar @ [X; 1])  equals  P2 @ R0_rect @ Tr_velo_to_cam @ [X; 1].

Formats: the readme.txt of KITTI's object and raw development kits (Geiger et al., IJRR 2013).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import existing, read_image, read_points
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T

OBJECT_LAYOUT = "SPLIT/{image_2/*.png, velodyne/*.bin, calib/*.txt[, label_2/*.txt]}"
RAW_LAYOUT = (
    "{image_02/data/*.png, velodyne_points/data/*.bin} with calib_cam_to_cam.txt and "
    "calib_velo_to_cam.txt in the same folder or its parent"
)
FIRST_STAMP_NS = 1_000_000_000
"""Stamp of frame 0 where the data set has no times; 0 would mean "no stamp" to ROS tools."""
LABEL_FIELDS = 15
"""type, truncated, occluded, alpha, 4 x 2D box, h, w, l, x, y, z, rotation_y (then a score)."""


class KittiObject:
    """Frames of the KITTI object benchmark; consecutive frames are unrelated.

    Args:
        root: folder that holds ``training``.
        split: ``training`` or ``testing``; without a ``label_2`` folder labels are None.
        rate_hz: stamps are made up at this rate, the data set has none.

    Each Frame has a LidarScan (x, y, z, reflectance 0..1) and Labels with 3D boxes, 2D boxes and
    lower-cased KITTI class names; ``DontCare`` regions are left out.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``bad_calibration``, ``bad_labels``, ``bad_points`` or ``bad_image``.
    """

    def __init__(self, root: str | Path, split: str = "training", rate_hz: float = 2.0):
        self.folder = Path(root) / split
        images = existing(self.folder / "image_2", OBJECT_LAYOUT)
        existing(self.folder / "velodyne", OBJECT_LAYOUT)
        existing(self.folder / "calib", OBJECT_LAYOUT)
        self.names = _stems(images, "*.png", OBJECT_LAYOUT)
        self.labelled = (self.folder / "label_2").is_dir()
        self.rate_hz = rate_hz

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        name = self.names[index]
        stamp_ns = _made_up_stamp(range(len(self))[index], self.rate_hz)
        calib_file = self.folder / "calib" / f"{name}.txt"
        calib = read_calibration(calib_file)
        P = _matrix(calib, "P2", (3, 4), calib_file)
        T_rect_lidar = make_T(
            _matrix(calib, "R0_rect", (3, 3), calib_file), np.zeros(3)
        ) @ np.vstack([_matrix(calib, "Tr_velo_to_cam", (3, 4), calib_file), [0, 0, 0, 1]])
        labels = None
        if self.labelled:
            labels = read_labels(self.folder / "label_2" / f"{name}.txt", baseline(P))
        return _frame(
            self.folder / "image_2" / f"{name}.png",
            self.folder / "velodyne" / f"{name}.bin",
            P,
            T_rect_lidar,
            (stamp_ns, stamp_ns),
            labels,
        )


class KittiRaw:
    """Frames of one synced and rectified KITTI raw drive; no labels.

    Args:
        root: the drive, e.g. ``2011_09_26/2011_09_26_drive_0001_sync``, or a date folder that
            holds the sensor folders itself.
        rate_hz: stamps are made up at this rate, shared by image and LiDAR, where the folders of
            a sensor have no ``timestamps.txt``; KITTI recorded at 10 Hz.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``bad_calibration``, ``bad_timestamps``, ``bad_points`` or ``bad_image``.
    """

    def __init__(self, root: str | Path, rate_hz: float = 10.0):
        self.folder = Path(root)
        images = existing(self.folder / "image_02" / "data", RAW_LAYOUT)
        existing(self.folder / "velodyne_points" / "data", RAW_LAYOUT)
        self.names = _stems(images, "*.png", RAW_LAYOUT)

        cam_file, velo_file = map(
            self._calibration, ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")
        )
        cam, velo = read_calibration(cam_file), read_calibration(velo_file)
        self.P = _matrix(cam, "P_rect_02", (3, 4), cam_file)
        rectify = make_T(_matrix(cam, "R_rect_00", (3, 3), cam_file), np.zeros(3))
        self.T_rect_lidar = rectify @ make_T(
            _matrix(velo, "R", (3, 3), velo_file), _matrix(velo, "T", (3,), velo_file)
        )
        sensors = "image_02", "velodyne_points"
        self.stamps = list(zip(*(self._stamps(sensor, rate_hz) for sensor in sensors), strict=True))

    def _calibration(self, name: str) -> Path:
        beside = self.folder / name
        return beside if beside.exists() else existing(self.folder.parent / name, RAW_LAYOUT)

    def _stamps(self, sensor: str, rate_hz: float) -> list[int]:
        """Stamps (ns) of every frame; file names are indices into ``timestamps.txt``, since
        single frames are missing from some drives."""
        file = self.folder / sensor / "timestamps.txt"
        if not file.exists():
            return [_made_up_stamp(i, rate_hz) for i in range(len(self.names))]
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
            self.folder / "image_02" / "data" / f"{name}.png",
            self.folder / "velodyne_points" / "data" / f"{name}.bin",
            self.P,
            self.T_rect_lidar,
            self.stamps[index],
            None,
        )


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """``KEY: numbers`` lines of a KITTI calibration file as float64 vectors; other lines (dates)
    are skipped.

    Raises:
        FileNotFoundError: there is no such file.
    """
    values = {}
    for line in existing(path, "a KITTI calibration file").read_text().splitlines():
        key, _, numbers = line.partition(":")
        try:
            values[key.strip()] = np.array(numbers.split(), np.float64)
        except ValueError:
            continue
    return values


def read_labels(path: Path, offset: np.ndarray) -> Labels:
    """Read one ``label_2`` file.

    Args:
        path: the file.
        offset: float64 (3,), added to box centres: rectified camera 0 to the Frame's camera.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_labels``.
    """
    names, boxes_3d, boxes_2d = [], [], []
    for number, line in enumerate(existing(path, OBJECT_LAYOUT).read_text().splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "DontCare":
            continue
        try:
            x1, y1, x2, y2, h, w, length, x, y, z, ry = map(float, fields[4:LABEL_FIELDS])
        except ValueError:
            raise Fault(
                "bad_labels",
                f"{path}:{number}: expected a name and {LABEL_FIELDS - 1} numbers, got: {line}",
            ) from None
        names.append(fields[0].lower())
        # KITTI's y is the bottom of the box, and y points down.
        boxes_3d.append([*(np.array([x, y - h / 2, z]) + offset), length, w, h, ry])
        boxes_2d.append([x1, y1, x2, y2])
    return Labels(
        boxes_3d=np.array(boxes_3d, np.float32).reshape(-1, 7),
        boxes_2d=np.array(boxes_2d, np.float32).reshape(-1, 4),
        class_names=tuple(names),
    )


def baseline(P: np.ndarray) -> np.ndarray:
    """Position offset K^-1 p4 (3,) that takes points of rectified camera 0 to P's own camera."""
    return np.linalg.solve(P[:, :3], P[:, 3])


def _frame(
    image_file: Path,
    points_file: Path,
    P: np.ndarray,
    T_rect_lidar: np.ndarray,
    stamps: tuple[int, int],
    labels: Labels | None,
) -> Frame:
    image = read_image(image_file)
    height, width = image.shape[:2]
    return Frame(
        stamp_ns=stamps[0],
        camera_name="image_02",
        camera=Camera.from_calibration(width, height, P[:, :3], "pinhole", []),
        image=image,
        companion=LidarScan(
            points=read_points(points_file, 4),
            T_camera_lidar=make_T(np.eye(3), baseline(P)) @ T_rect_lidar,
            stamp_ns=stamps[1],
        ),
        labels=labels,
    )


def _matrix(
    values: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    if key not in values:
        raise Fault(
            "bad_calibration", f"{path} has no {key}; it has {', '.join(values) or 'nothing'}"
        )
    if values[key].size != np.prod(shape):
        raise Fault("bad_calibration", f"{path}: {key} must hold {np.prod(shape)} numbers")
    return values[key].reshape(shape)


def _stems(folder: Path, pattern: str, layout: str) -> list[str]:
    names = sorted(path.stem for path in folder.glob(pattern))
    if not names:
        raise FileNotFoundError(f"no {pattern} in {folder}; expected {layout}")
    return names


def _made_up_stamp(index: int, rate_hz: float) -> int:
    return FIRST_STAMP_NS + round(index * 1e9 / rate_hz)
