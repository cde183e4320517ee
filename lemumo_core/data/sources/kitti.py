"""The KITTI object benchmark as Frames (``kitti_frames``), from its official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import existing, made_up_stamp, positive_level, positive_rate
from lemumo_core.data.sources.kitti_files import matrix, read_calibration, rotation
from lemumo_core.data.sources.kitti_frames import (
    Files,
    camera_name_of,
    counted,
    image_files,
    lost_sweeps,
    read_frame,
    unlabelled,
)
from lemumo_core.frame import Frame
from lemumo_core.geometry.se3 import make_T

OBJECT_LAYOUT = "SPLIT/{image_2|image_3/*.{png,jpg}, velodyne/*.bin, calib/*.txt[, label_2/*.txt]}"


class KittiObject:
    """Frames of the KITTI object benchmark; consecutive frames are unrelated.

    Args:
        root: folder that holds ``training``.
        split: ``training`` or ``testing``; without a ``label_2`` folder labels are None, and
            so are those of images without a file in it.
        rate_hz: stamps are made up at this rate, the data set has none.
        camera: 2 (left colour) or 3 (right colour).
        white_level: value of white in images of 16 bits, e.g. 4095 where they hold 12.

    Each Frame has a LidarScan (x, y, z, reflectance 0..1) and Labels with 3D boxes, 2D boxes,
    lower-cased KITTI class names, visibility (``kitti_labels.VISIBILITY``) and LiDAR point counts;
    ``DontCare`` regions are those to ignore. KITTI annotates the left image: for the right one 2D
    boxes are projected from the 3D ones, and objects that it does not show are left out. A Frame
    whose sweep is lost has no companion.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_calibration``, ``bad_labels``, ``bad_points`` or
            ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "training",
        rate_hz: float = 2.0,
        camera: int = 2,
        white_level: int | None = None,
    ):
        self.root, self.split = Path(root), split
        self.white_level = positive_level(white_level)
        self.folder = self.root / split
        self.camera_name = camera_name_of(camera)
        self.projection = f"P{camera}"
        self.images = existing(self.folder / f"image_{camera}", OBJECT_LAYOUT)
        self.velodyne = existing(self.folder / "velodyne", OBJECT_LAYOUT)
        existing(self.folder / "calib", OBJECT_LAYOUT)
        self.files = image_files(self.images, OBJECT_LAYOUT)
        self.names = list(self.files)
        self.no_sweep = lost_sweeps(self.velodyne, self.names)
        self.label_folder = self.folder / "label_2"
        self.no_labels = unlabelled(self.label_folder, self.names)
        self.rate_hz = positive_rate(rate_hz)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        name = self.names[index]
        stamp_ns = made_up_stamp(range(len(self))[index], self.rate_hz)
        calib_file = self.folder / "calib" / f"{name}.txt"
        calib = read_calibration(calib_file)
        P = matrix(calib, self.projection, (3, 4), calib_file)
        rectify = make_T(rotation(calib, "R0_rect", calib_file), np.zeros(3))
        T_cam_lidar = rotation(calib, "Tr_velo_to_cam", calib_file, (3, 4))
        T_rect_lidar = rectify @ np.vstack([T_cam_lidar, [0, 0, 0, 1]])
        return read_frame(
            self.camera_name,
            Files(
                image=self.files[name],
                points=None if name in self.no_sweep else self.velodyne / f"{name}.bin",
                labels=None if name in self.no_labels else self.label_folder / f"{name}.txt",
            ),
            (P, T_rect_lidar),
            (stamp_ns, stamp_ns),
            self.white_level,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "kitti",
            "root": str(self.root),
            "split": self.split,
            "camera": self.camera_name,
            "frames": len(self),
            **counted(self.no_sweep, self.no_labels if self.label_folder.is_dir() else ()),
        }
