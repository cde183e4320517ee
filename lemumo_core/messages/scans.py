"""LiDAR scans as companions of an image: one, or those of several LiDARs merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.frame import LidarScan, is_return
from lemumo_core.geometry.se3 import inverse, transform


def merge_scans(scans: Sequence[LidarScan]) -> LidarScan:
    """Return the points of all scans as one scan, in the frame of the first one.

    Args:
        scans: at least one, each with its own ``T_camera_lidar``.

    Returns:
        A scan with the first one's transform and stamp. It has as many channels as the widest;
        those that a scan lacks are 0.
    """
    first = scans[0]
    if len(scans) == 1:
        return first
    channels = max(scan.points.shape[1] for scan in scans)
    T_first_camera = inverse(first.T_camera_lidar)
    merged = []
    for scan in scans:
        points = scan.columns(channels)
        if scan is not first:
            xyz = scan.points[:, :3].astype(np.float64)
            returns = is_return(scan.points)
            T_first_lidar = T_first_camera @ scan.T_camera_lidar
            points[returns, :3] = transform(T_first_lidar, xyz[returns])
        merged.append(points)
    return LidarScan(np.concatenate(merged), first.T_camera_lidar, first.stamp_ns)
