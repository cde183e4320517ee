"""SemanticKITTI as Frames: KITTI's odometry sequences with a class for every LiDAR point.

Format: http://semantic-kitti.org/dataset.html (Behley et al., ICCV 2019) and the readme.txt of
KITTI's odometry development kit (Geiger et al., CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    existing,
    made_up_stamp,
    positive_level,
    positive_rate,
    read_points,
    read_text,
)
from lemumo_core.data.sources.kitti_files import baseline, matrix, read_calibration, rotation
from lemumo_core.data.sources.kitti_frames import Files, camera_name_of, image_files, read_frame
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T

LAYOUT = (
    "sequences/NN/{velodyne/*.bin, calib.txt"
    "[, labels/*.label, image_2/*.png, times.txt, poses.txt]}"
)
CLASS_OF_LABEL = {
    0: "unlabeled",
    1: "outlier",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    16: "on-rails",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    44: "parking",
    48: "sidewalk",
    49: "other-ground",
    50: "building",
    51: "fence",
    52: "other-structure",
    60: "lane-marking",
    70: "vegetation",
    71: "trunk",
    72: "terrain",
    80: "pole",
    81: "traffic-sign",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    256: "moving-on-rails",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}
"""``labels`` of semantic-kitti.yaml."""
NAMES = tuple(CLASS_OF_LABEL.values())
CLASS_BITS = 0xFFFF
"""The lower half of a label is its class, the upper half the number of its object."""
SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
}


class SemanticKitti:
    """Sweeps of SemanticKITTI, one Frame each, with the image of a colour camera where it is there.

    Args:
        root: folder that holds ``sequences``.
        split: ``train``, ``val`` or ``test`` of the benchmark.
        sequences: in place of a split, e.g. ``08``.
        rate_hz: stamps are made up at this rate where a sequence has no ``times.txt``.
        camera: 2 (left colour) or 3 (right colour).
        white_level: value of white in images of 16 bits.

    Each Frame has a LidarScan (x, y, z, remission 0..1) and, where the sequence has labels,
    ``point_labels`` whose ``label_names`` are those of the data set; ``--classes semantickitti``
    are the 19 of its benchmark. Images are KITTI odometry's own download; without them a Frame has
    the calibrated camera alone, of a size that puts its principal point in the middle.
    ``T_fixed_camera`` is the pose of ``poses.txt``, in the frame of camera 0 of the first sweep.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``bad_split``, ``unknown_camera``, ``bad_calibration``, ``bad_poses``,
            ``bad_timestamps``, ``bad_points``, ``bad_point_labels`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        sequences: str | Sequence[str] | None = None,
        rate_hz: float = 10.0,
        camera: int = 2,
        white_level: int | None = None,
    ):
        if sequences is None and split not in SPLITS:
            raise Fault("bad_split", f"split is '{split}', must be one of {', '.join(SPLITS)}")
        self.root, self.split = Path(root), split
        self.camera_name = camera_name_of(camera)
        self.white_level = positive_level(white_level)
        names = [sequences] if isinstance(sequences, str) else sequences
        folders = [self.root / "sequences" / name for name in names or SPLITS[split]]
        if names is None:  # who has downloaded some may train on them
            folders = [folder for folder in folders if folder.is_dir()] or folders[:1]
        self.sequences = [_Sequence(folder, camera, positive_rate(rate_hz)) for folder in folders]
        self._ends = np.cumsum([len(sequence.names) for sequence in self.sequences])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        sequence = self.sequences[number]
        at = index - int(self._ends[number]) + len(sequence.names)
        return sequence.frame(at, self.camera_name, self.white_level)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "semantic-kitti",
            "root": str(self.root),
            "sequences": [sequence.folder.name for sequence in self.sequences],
            "camera": self.camera_name,
            "frames": len(self),
        }


class _Sequence:
    """One sequence: its files, calibration, stamps and poses."""

    def __init__(self, folder: Path, camera: int, rate_hz: float):
        self.folder = folder
        self.velodyne = existing(folder / "velodyne", LAYOUT)
        self.names = sorted(path.stem for path in self.velodyne.glob("*.bin"))
        if not self.names:
            raise FileNotFoundError(f"no *.bin in {self.velodyne}; expected {LAYOUT}")
        file = existing(folder / "calib.txt", LAYOUT)
        calibration = read_calibration(file)
        self.P = matrix(calibration, f"P{camera}", (3, 4), file)
        self.T_first_lidar = np.vstack([rotation(calibration, "Tr", file, (3, 4)), [0, 0, 0, 1]])
        images = folder / f"image_{camera}"
        self.images = image_files(images, LAYOUT) if images.is_dir() else {}
        self.labels = folder / "labels"
        self.stamps = self._rows("times.txt", 1, "bad_timestamps")
        self.poses = self._rows("poses.txt", 12, "bad_poses")
        self.rate_hz = rate_hz

    def frame(self, at: int, camera_name: str, white_level: int | None) -> Frame:
        """Read one Frame, by the number of its sweep in the sequence."""
        name = self.names[at]
        stamp_ns = made_up_stamp(at, self.rate_hz)
        if self.stamps is not None:
            stamp_ns = made_up_stamp(0, self.rate_hz) + round(1e9 * float(self.stamps[at, 0]))
        points = self.velodyne / f"{name}.bin"
        calibration = self.P, self.T_first_lidar
        if name in self.images:
            files = Files(self.images[name], points)
            frame = read_frame(camera_name, files, calibration, (stamp_ns, stamp_ns), white_level)
        else:
            frame = self._without_image(camera_name, points, stamp_ns)
        scan = frame.companion
        assert isinstance(scan, LidarScan)
        if self.poses is not None:
            T_lidar_camera = inverse(scan.T_camera_lidar)
            T_fixed_first = np.vstack([self.poses[at].reshape(3, 4), [0, 0, 0, 1]])
            T_fixed_camera = T_fixed_first @ self.T_first_lidar @ T_lidar_camera
            frame = replace(frame, T_fixed_camera=T_fixed_camera)
        if not self.labels.is_dir():
            return frame
        ids = self._point_labels(name, len(scan.points))
        return replace(frame, labels=Labels(point_labels=ids, label_names=NAMES))

    def _without_image(self, camera_name: str, points: Path, stamp_ns: int) -> Frame:
        """Return a Frame without an image."""
        width, height = (round(2 * self.P[i, 2]) + 1 for i in (0, 1))
        camera = Camera.from_calibration(width, height, self.P[:, :3], "pinhole", [])
        T_camera_lidar = make_T(np.eye(3), baseline(self.P)) @ self.T_first_lidar
        scan = LidarScan(read_points(points, 4), T_camera_lidar, stamp_ns)
        return Frame(stamp_ns, camera_name, camera, companion=scan)

    def _point_labels(self, name: str, points: int) -> np.ndarray:
        """Return ids into ``NAMES``, uint8 (N,)."""
        file = existing(self.labels / f"{name}.label", LAYOUT)
        if file.stat().st_size != 4 * points:
            raise Fault(
                "bad_point_labels",
                f"{file} has {file.stat().st_size} bytes, {self.velodyne / name}.bin has {points} "
                "points of a uint32 each: do they belong together?",
            )
        classes = np.fromfile(file, np.uint32) & CLASS_BITS
        if unknown := sorted(set(np.unique(classes).tolist()) - CLASS_OF_LABEL.keys()):
            raise Fault(
                "bad_point_labels",
                f"{file} holds classes {', '.join(map(str, unknown))}, which SemanticKITTI has "
                "not: are the lower 16 bits of its labels their class?",
            )
        table = np.full(max(CLASS_OF_LABEL) + 1, UNLABELLED, np.uint8)
        table[list(CLASS_OF_LABEL)] = np.arange(len(NAMES))
        return np.asarray(table[classes])

    def _rows(self, name: str, columns: int, reason: str) -> np.ndarray | None:
        """Return the numbers of a text file, a row a sweep, or None where it is not there."""
        file = self.folder / name
        if not file.exists():
            return None
        values = np.array(read_text(file, LAYOUT).split(), np.float64)
        if values.size != columns * len(self.names):
            raise Fault(
                reason,
                f"{file} holds {values.size} numbers, {columns} for each of the {len(self.names)} "
                f"sweeps in {self.velodyne} are expected",
            )
        return values.reshape(-1, columns)
