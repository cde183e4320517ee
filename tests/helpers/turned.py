"""Frames whose extrinsics are wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from lemumo_core.frame import Frame
from lemumo_core.geometry.se3 import make_T

PITCH, YAW, ROLL = range(3)


def turned(
    frame: Frame, axis: int = 0, degrees: float = 0.0, shift_m: Sequence[float] = (0, 0, 0)
) -> Frame:
    """Turn the LiDAR about an axis of the camera, and shift it."""
    R, _ = cv2.Rodrigues(np.deg2rad(degrees) * np.eye(3)[axis])
    T = make_T(R, np.array(shift_m, float)) @ frame.companion.T_camera_lidar
    return replace(frame, companion=replace(frame.companion, T_camera_lidar=T))
