"""The camera model of images that come without one."""

from __future__ import annotations

import math
from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.calibration_file import read_calibration
from lemumo_core.messages.camera_info import camera_from_info

FOV_DEG = 70.0
"""Horizontal field of view of usual driving and phone cameras."""


class Lens:
    """Camera models of images of any size.

    Args:
        calibration: YAML file of camera_calibration, of the images' size; None takes a pinhole.
        rectified: the calibrated images are rectified ones.
        fov_deg: horizontal field of view of the pinhole, degrees, whose axis goes through the
            middle of the image.

    Raises:
        Fault: ``bad_option``; as ``read_calibration`` and ``camera_from_info``.
    """

    def __init__(self, calibration: str | Path | None, rectified: bool, fov_deg: float):
        if not 0 < fov_deg < 180:
            raise Fault("bad_option", f"fov_deg is {fov_deg}, must be above 0 and below 180")
        self.fov_deg, self.calibration, self.rectified = fov_deg, calibration, rectified
        self.camera = None
        if calibration is not None:
            self.camera = camera_from_info(read_calibration(calibration), rectified)

    def camera_of(self, width: int, height: int) -> Camera:
        """Return the model of an image of a size, pixels.

        Raises:
            Fault: ``camera_info_mismatch`` where the calibration is of another size.
        """
        if self.camera is None:
            focal_px = width / 2 / math.tan(math.radians(self.fov_deg) / 2)
            return nominal_camera(width, height, focal_px)
        if (width, height) != (self.camera.width, self.camera.height):
            raise Fault(
                "camera_info_mismatch",
                f"the image is {width}x{height}, but {self.calibration} is of "
                f"{self.camera.width}x{self.camera.height}: give the calibration of these images",
            )
        return self.camera

    def describe(self) -> dict[str, object]:
        """Return the options as JSON values."""
        if self.calibration is None:
            return {"fov_deg": self.fov_deg}
        return {"calibration": str(self.calibration), "rectified": self.rectified}


def nominal_camera(width: int, height: int, focal_px: float) -> Camera:
    """Return a pinhole with square pixels whose axis goes through the middle of the image."""
    return Camera(width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)
