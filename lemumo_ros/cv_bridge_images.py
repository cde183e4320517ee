"""Image encodings that only cv_bridge reads, where a ROS installation has it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.messages.images import ENCODINGS


def through_cv_bridge(msg: Any) -> np.ndarray:
    """Convert a sensor_msgs/Image of any encoding to uint8 (H, W, 3) RGB.

    This is the ``fallback`` of ``image_to_rgb``, which has checked the sizes.

    Raises:
        Fault: ``unsupported_encoding``, naming the apt line where cv_bridge is missing.
    """
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError as error:
        package = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-cv-bridge"
        raise Fault(
            "unsupported_encoding",
            f"encoding '{msg.encoding}' needs cv_bridge ({error}): apt install {package}; without "
            f"it: {', '.join(ENCODINGS)}",
        ) from error
    try:
        return CvBridge().imgmsg_to_cv2(msg, "rgb8")
    except (CvBridgeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Fault(
            "unsupported_encoding", f"cv_bridge cannot read '{msg.encoding}': {error}"
        ) from error
