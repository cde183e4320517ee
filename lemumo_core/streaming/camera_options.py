"""Options of one camera's input, in the node and in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.messages.camera_info import Rectified


@dataclass(frozen=True, eq=False)
class CameraOptions:
    """Options of one camera's input.

    Attributes:
        sync_tolerance_ns: largest difference of stamps in a pair, as in ``Matcher``.
        companion_deadline_ns: longest wait of an image for its companion, as in ``Matcher``.
        companion_offset_ns: stamp of the companion minus stamp of the image when both show the
            same moment.
        T_camera_companion: (4, 4) extrinsics; None takes them from tf.
        thermal_window: left, top, width and height of the part of the image that the thermal
            image covers, as fractions (``Camera.of_window``); empty where both are calibrated.
        rectified: whether the images are rectified ones, as for ``camera_of_images``.
        fixed_frame: frame, such as ``odom``, in which the motion of a LiDAR is known, by which its
            points are brought to the time of the image (``compensate``); empty: they are not.
        tracking_frame: frame in which objects are tracked, best one that does not move; empty: that
            of the image; None: they are not.
        camera_info: CameraInfo to use instead of the messages'; None: theirs.
        lidars: names of the LiDARs whose points are merged, by tf; empty: there is one.
    """

    sync_tolerance_ns: int = 60_000_000
    companion_deadline_ns: int = 100_000_000
    companion_offset_ns: int = 0
    T_camera_companion: np.ndarray | None = None
    thermal_window: Sequence[float] = ()
    rectified: Rectified = "auto"
    fixed_frame: str = ""
    tracking_frame: str | None = None
    camera_info: Any = None
    lidars: tuple[str, ...] = ()
