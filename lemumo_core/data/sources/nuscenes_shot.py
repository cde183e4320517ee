"""One recording of one sensor of nuScenes: where it was made, and with which camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.data.sources.annotations import NORM_TOLERANCE
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, rotation_from_quaternion

Row = dict[str, Any]


class Shot(NamedTuple):
    """A row of ``sample_data`` and the rows that it points at.

    Attributes:
        token: of the row.
        file: below the root of the data set.
        stamp_ns: time of the recording.
        size: width and height of an image, zeros of a sweep.
        mount: row of ``calibrated_sensor``.
        pose: row of ``ego_pose``.
    """

    token: str
    file: str
    stamp_ns: int
    size: tuple[int, int]
    mount: Row
    pose: Row

    @property
    def T_world_sensor(self) -> np.ndarray:
        """Pose of the sensor in the world at the time of the recording, float64 (4, 4).

        Raises:
            Fault: ``bad_table``.
        """
        return _T("ego_pose", self.pose) @ _T("calibrated_sensor", self.mount)

    def camera_of(self, image: np.ndarray, path: Path) -> Camera:
        """Return the camera of the recorded image.

        Raises:
            Fault: ``bad_image`` for an image of another size than the calibrated one;
                ``bad_camera``.
        """
        height, width = image.shape[:2]
        if (width, height) != self.size:
            raise Fault(
                "bad_image",
                f"{path} is {width}x{height}, but sample_data and its calibration are of "
                "{}x{} images: take the images as they were published".format(*self.size),
            )
        K, D = self.mount["camera_intrinsic"], self.mount.get("camera_distortion", [])
        return Camera.from_calibration(width, height, K, "plumb_bob" if D else "pinhole", D)


def _T(table: str, row: Row) -> np.ndarray:
    """Return the pose of a table row with ``rotation`` (w, x, y, z) and ``translation``."""
    rotation, translation = (np.array(row[key], float) for key in ("rotation", "translation"))
    if not np.isfinite(translation).all() or not abs(rotation @ rotation - 1) <= NORM_TOLERANCE:
        raise Fault(
            "bad_table",
            f"{table} {row['token']} is no pose: rotation {row['rotation']} must be a unit "
            f"quaternion, translation {row['translation']} finite",
        )
    return make_T(rotation_from_quaternion(*rotation), translation)
