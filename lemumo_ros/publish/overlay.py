"""Overlay pictures as JPEG messages, at a limited rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.manifest import Manifest
from lemumo_core.streaming.overlay import draw_overlay
from lemumo_ros.publish.rclpy_builder import build

JPEG_QUALITY = 85


class RateLimit:
    """Passes at most so many events per second.

    Args:
        clock: returns the time, s, of a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last_s = -math.inf

    def passes(self, rate_hz: float) -> bool:
        """Return whether an event may happen now, and count it if so; a rate of 0 passes none."""
        now_s = self._clock()
        if rate_hz <= 0 or now_s - self._last_s < 1.0 / rate_hz:
            return False
        self._last_s = now_s
        return True


def overlay_image(
    frame: Frame, perception: Perception, manifest: Manifest, header: Header
) -> CompressedImage:
    """Draw a result over its image; see ``draw_overlay``."""
    return build.jpeg(draw_overlay(frame, perception, manifest), JPEG_QUALITY, header)
