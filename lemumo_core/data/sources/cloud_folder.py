"""Folders of images and of point clouds, in pairs, as Frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    existing,
    files_below,
    read_points,
    read_text,
    warn_of_unpaired,
)
from lemumo_core.data.sources.image_folder import ImageFolder
from lemumo_core.data.sources.pcd import read_pcd
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.se3 import check_rigid

CLOUD_SUFFIXES = (".pcd", ".bin", ".npy")
LAYOUT = f"a folder of point clouds, at any depth: {', '.join(CLOUD_SUFFIXES)}"
NOT_NUMBERS = re.compile(r"[\[\](),;]")


class CloudFolder:
    """Images below a folder with the point clouds of the same names below another; no labels.

    ``0001.png`` goes with ``0001.pcd``, ``monday/7.jpg`` with ``monday/7.bin``. Order, recordings
    and stamps are those of ``ImageFolder``. Intensity and ring, the number of the beam, are read
    where a cloud has them.

    Args:
        images: folder of images.
        clouds: folder of PCD files (ascii, binary, binary_compressed), of .bin files (rows of
            float32: x, y, z, then intensity and ring), or of arrays (N, 3 or more) in .npy files.
        calibration: of the camera: YAML file of camera_calibration, or a CameraInfo as ``ros2
            topic echo --once`` prints it.
        extrinsics: T_camera_lidar, from the LiDAR's frame to the camera's optical one (x right, y
            down, z forward): 16 numbers by row, or the text file that holds them.
        columns: numbers in a row of .bin files.
        rectified: the images are rectified ones.
        rate_hz: images a second, of the stamps.
        white_level: value of white in images of 16 bits, e.g. 4095 where they hold 12.

    Raises:
        FileNotFoundError: no such folder, or no image has a cloud of its name.
        Fault: ``bad_source`` for two clouds of one name; as ``ImageFolder``; ``bad_transform``;
            ``bad_option``; ``bad_points``.
    """

    def __init__(
        self,
        images: str | Path,
        clouds: str | Path,
        calibration: str,
        extrinsics: str | Sequence[float],
        columns: int = 4,
        rectified: bool = False,
        rate_hz: float = 10.0,
        white_level: int | None = None,
    ):
        if columns < 3:
            raise Fault("bad_option", f"columns is {columns}, must be at least 3: x, y, z")
        self.images = ImageFolder(
            images, calibration, rectified, rate_hz=rate_hz, white_level=white_level
        )
        self.clouds, self.columns = existing(Path(clouds), LAYOUT), columns
        self.T_camera_lidar = read_extrinsics(extrinsics)
        found: dict[Path, Path] = {}
        for path in files_below(self.clouds, CLOUD_SUFFIXES):
            other = found.setdefault(path.with_suffix(""), path)
            if other != path:
                raise Fault(
                    "bad_source",
                    f"{self.clouds} holds {other} and {path}, two clouds of one name: leave one",
                )
        names = [path.with_suffix("") for path, _ in self.images.images]
        self.pairs = [(i, found[name]) for i, name in enumerate(names) if name in found]
        """Indices of images, and the paths of their clouds."""
        if not self.pairs:
            seen = f", the first is {min(found.values())}" if found else ""
            raise FileNotFoundError(
                f"{self.clouds} holds {len(found)} clouds ({', '.join(CLOUD_SUFFIXES)}){seen}, and "
                f"none has the name of one of the {len(names)} images, e.g. {names[0]}: name a "
                "cloud as its image"
            )
        unpaired = sorted(str(name) for name in found.keys() ^ set(names))
        warn_of_unpaired(self.clouds, unpaired, len(self.pairs) + len(unpaired))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Frame:
        image, path = self.pairs[index]
        frame = self.images[image]
        points = read_cloud(self.clouds / path, self.columns)
        return replace(frame, companion=LidarScan(points, self.T_camera_lidar, frame.stamp_ns))

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            **self.images.describe(),
            "source": "clouds",
            "clouds": str(self.clouds),
            "frames": len(self),
            "T_camera_lidar": self.T_camera_lidar.tolist(),
        }


def read_cloud(path: Path, columns: int) -> np.ndarray:
    """Read a point cloud: float32 (N, 3 or more), the columns as of ``LidarScan``.

    Args:
        path: .pcd, .bin or .npy.
        columns: numbers in a row of a .bin file.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_points``.
    """
    suffix = path.suffix.lower()
    if suffix == ".pcd":
        return read_pcd(path)
    if suffix == ".bin":
        return read_points(path, columns)
    try:
        points = np.load(existing(path, "an array of points"), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Fault("bad_points", f"{path} is no array of numbers: {error}") from None
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        shape = f"{points.dtype} {points.shape}"
        raise Fault("bad_points", f"{path} is {shape}, must hold numbers (N, 3 or more)")
    return points.astype(np.float32)


def read_extrinsics(given: str | Sequence[float]) -> np.ndarray:
    """Return T_camera_lidar, float64 (4, 4).

    Args:
        given: 16 numbers by row, in text also with brackets and commas; or the path of a text file
            that holds them.

    Raises:
        Fault: ``bad_transform``.
    """
    if not isinstance(given, str):
        return check_rigid(np.asarray(given), "extrinsics")
    numbers = _numbers(given)
    if numbers is None and Path(given).is_file():
        numbers = _numbers(read_text(Path(given), "a text file of 16 numbers"))
    if numbers is None:
        raise Fault(
            "bad_transform",
            f"extrinsics is '{given}', must be T_camera_lidar as 16 numbers by row, or a text file "
            "that holds these alone",
        )
    return check_rigid(np.array(numbers), "extrinsics")


def _numbers(text: str) -> list[float] | None:
    """Return the numbers that a text consists of; None where it is made of anything else."""
    try:
        return [float(word) for word in NOT_NUMBERS.sub(" ", text).split()]
    except ValueError:
        return None
