"""KITTI's object layout: boxes in 3D and 2D, with images, sweeps and calibration."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.data.sources.kitti_labels import DONT_CARE, VISIBILITY, read_labels
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.se3 import transform
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

log = logging.getLogger(__name__)

UNKNOWN_2D = [-1.0] * 4
UNKNOWN_3D = [-1.0] * 3 + [-1000.0] * 3 + [-10.0]


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write ``training/{image_2, label_2, calib, velodyne}``, confidence as the last number.

    KITTI's images are rectified: of a camera with distortion the boxes in space are right, and
    their projection by ``calib`` is not.
    """
    folder = out / "training"
    for part in ("label_2", "calib", "velodyne"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    distorted = False
    for name, frame in frames:
        write_image(frame, folder / "image_2" / f"{name}.png")
        distorted |= frame.camera.model != "pinhole"
        lines = "".join(f"{line}\n" for line in _lines(frame.labels or Labels()))
        (folder / "label_2" / f"{name}.txt").write_text(lines)
        (folder / "calib" / f"{name}.txt").write_text(_calibration(frame))
        if isinstance(frame.companion, LidarScan):
            frame.companion.columns(4).tofile(folder / "velodyne" / f"{name}.bin")
    if distorted:
        log.warning("%s: images are not rectified, and KITTI's calib holds no distortion", out)


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read the files of ``label_2`` in a folder, of ``training`` in it, or of the folder itself.

    Raises:
        FileNotFoundError: there is no label file.
    """
    folders = path / "training" / "label_2", path / "label_2", existing(path, "KITTI's label_2")
    folder = next(one for one in folders if one.is_dir())
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no label file NAME.txt")
    return {file.stem: partial(_labels, file) for file in files}


def _labels(file: Path, frame: Frame) -> dict[str, Any]:
    points = None
    if isinstance(frame.companion, LidarScan):
        scan = frame.companion
        points = transform(scan.T_camera_lidar, scan.points[:, :3].astype(np.float64))
    found = read_labels(file, frame.camera, np.zeros(3), points)
    return {name: value for name, value in vars(found).items() if name in BOX_FIELDS}


BOX_FIELDS = ("boxes_3d", "boxes_2d", "class_names", "visibility", "num_points", "ignore")


def _lines(labels: Labels) -> Iterable[str]:
    count = len(labels.class_names)
    for i, name in enumerate(labels.class_names):
        if any(part.isspace() for part in name):
            raise Fault("bad_labels", f"KITTI's files hold no class name with a space: '{name}'")
        corners = UNKNOWN_2D if labels.boxes_2d is None else labels.boxes_2d[i].tolist()
        if not (corners[2] > corners[0] and corners[3] > corners[1]):
            corners = UNKNOWN_2D
        numbers, alpha = UNKNOWN_3D, -10.0
        if labels.boxes_3d is not None:
            x, y, z, length, width, height, yaw = labels.boxes_3d[i].tolist()
            numbers = [height, width, length, x, y + height / 2, z, yaw]  # y is the box's bottom
            alpha = math.remainder(yaw - math.atan2(x, z), 2 * math.pi)
        assert labels.visibility is None or len(labels.visibility) == count
        seen = math.nan if labels.visibility is None else float(labels.visibility[i])
        own = labels.box_confidence
        score = [] if own is None else [float(own[i])]
        yield _row(name, _occluded(seen), alpha, corners, [*numbers, *score])
    for corners in [] if labels.ignore is None else labels.ignore.tolist():
        yield _row(DONT_CARE, -1, -10.0, corners, UNKNOWN_3D)


def _row(name: str, occluded: int, alpha: float, corners: list[float], numbers: list[float]) -> str:
    words = (f"{value:.6f}" for value in (alpha, *corners, *numbers))
    return f"{name} {-1 if name == DONT_CARE else 0} {occluded} {' '.join(words)}"


def _occluded(visibility: float) -> int:
    """Return KITTI's level that is nearest to a share that is seen; 3 where it is not known."""
    if math.isnan(visibility):
        return 3
    return int(min(VISIBILITY, key=lambda level: abs(VISIBILITY[level] - visibility)))


def _calibration(frame: Frame) -> str:
    K, T = frame.camera.K, np.eye(4)
    if isinstance(frame.companion, LidarScan):
        T = frame.companion.T_camera_lidar
    projection = np.hstack([K, np.zeros((3, 1))])
    rows = {**{f"P{i}": projection for i in range(4)}, "R0_rect": np.eye(3)}
    rows |= {"Tr_velo_to_cam": T[:3], "Tr_imu_to_velo": np.eye(4)[:3]}
    return "".join(
        f"{key}: {' '.join(f'{value:.12e}' for value in matrix.ravel())}\n"
        for key, matrix in rows.items()
    )
