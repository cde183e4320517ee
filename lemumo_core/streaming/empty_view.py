"""LiDAR returns of which none is in view, and why."""

from __future__ import annotations

import numpy as np

from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import Frame, LidarScan, Perception
from lemumo_core.geometry.se3 import inverse, make_T

EMPTY_VIEWS = 5
"""Consecutive frames without a return in view after which a setting is at fault, not the scene."""
LEAST_SHARE = 0.02
"""Share of the returns that must come into view for a cause to be likely."""
T_OPTICAL_BODY = make_T(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))
"""REP-103: from body axes (x forward, z up) to optical ones (z forward, y down)."""


def is_empty(frame: Frame, perception: Perception) -> bool:
    """Return whether a frame's LiDAR had no return in the view of the network."""
    return isinstance(frame.companion, LidarScan) and "lidar" not in perception.modalities


def explain_empty_view(frame: Frame) -> str:
    """Return the likely cause for which none of a LiDAR's returns is in the image.

    Args:
        frame: with a LiDAR scan.
    """
    scan = frame.companion
    assert isinstance(scan, LidarScan)
    xyz = scan.points[:, :3]
    count = int((np.isfinite(xyz).all(axis=1) & xyz.any(axis=1)).sum())
    if not count:
        return "the point cloud holds no return"
    T = scan.T_camera_lidar
    causes = {
        "the image's frame were x forward: is this the optical frame?": T_OPTICAL_BODY @ T,
        "the extrinsics were inverted: are they T_camera_lidar?": inverse(T),
        "the cloud were z forward: does it name a frame that is x forward?": (
            T @ inverse(T_OPTICAL_BODY)
        ),
    }
    in_view = {
        words: len(project_returns(scan.points, T_other, frame.camera, 0.1).row)
        for words, T_other in causes.items()
    }
    likely = max(in_view, key=lambda words: in_view[words])
    if in_view[likely] >= max(1, LEAST_SHARE * count):
        return f"{in_view[likely]} of {count} returns would be in view if {likely}"
    return f"all {count} returns are behind the camera or beside the image: check the extrinsics"


class EmptyViews:
    """Counts consecutive frames without a return in view."""

    def __init__(self) -> None:
        self.count = 0
        self._consecutive = 0
        self._cause = ""

    def update(self, frame: Frame, perception: Perception) -> str:
        """Count a result; return the cause from the ``EMPTY_VIEWS``th empty one on, else ''."""
        if not is_empty(frame, perception):
            self._consecutive, self._cause = 0, ""
            return ""
        self.count += 1
        self._consecutive += 1
        if self._consecutive % EMPTY_VIEWS == 0:  # from time to time: settings may change
            self._cause = f"no lidar return is in view: {explain_empty_view(frame)}"
        return self._cause
