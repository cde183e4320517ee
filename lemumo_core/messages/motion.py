"""Undo the motion of a LiDAR during its sweep, and between the sweep and the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lemumo_core.frame import is_return
from lemumo_core.geometry.se3 import inverse
from lemumo_core.messages.points import point_offsets_ns
from lemumo_core.messages.transforms import TransformBuffer

KNOT_NS = 5_000_000
"""Between two poses this far apart, motion is taken to be even: at 1 rad/s and 50 m the error of
blending their matrices is .2 mm."""


def compensate(
    points: np.ndarray,
    cloud: Any,
    cloud_ns: int,
    transforms: TransformBuffer,
    fixed_frame: str,
    stamp_ns: int,
) -> np.ndarray:
    """Return points as their sensor would have measured them at one moment, by its motion.

    What moves by itself stays where it was measured: only the sensor's own motion is known.

    Args:
        points: float32 (N, >= 3), metres in the frame of the cloud; further channels are kept, and
            rows that are no return stay what they are.
        cloud: sensor_msgs/PointCloud2 that they come from, for its frame and the times of its
            points; all have its stamp where it has none.
        cloud_ns: stamp of the cloud, on the clock of the transforms.
        transforms: buffer that holds the motion of the cloud's frame in ``fixed_frame``.
        fixed_frame: frame that does not move with the sensor, e.g. ``odom``.
        stamp_ns: the moment, on the same clock.

    Raises:
        Fault: ``missing_transform``, ``old_transform``; ``bad_point_cloud`` for times that cannot
            be of one sweep.
    """
    frame = cloud.header.frame_id
    offsets_ns = point_offsets_ns(cloud)
    if offsets_ns is None:
        offsets_ns = np.zeros(len(points), np.int64)
    pose_at = partial(transforms.lookup, fixed_frame, frame)
    return to_one_moment(points, offsets_ns, cloud_ns, pose_at, stamp_ns)


def to_one_moment(
    points: np.ndarray,
    offsets_ns: np.ndarray,
    cloud_ns: int,
    pose_at: Callable[[int], np.ndarray],
    stamp_ns: int,
) -> np.ndarray:
    """Return points as their sensor would have measured them at one moment, by its poses.

    Args:
        points: as for ``compensate``.
        offsets_ns: int64 (N,), times of the points less that of the cloud.
        cloud_ns: time of the cloud.
        pose_at: returns the pose of the sensor at a time, ns, in a frame that does not move,
            float64 (4, 4).
        stamp_ns: the moment.

    Raises:
        Fault: as ``pose_at``.
    """
    T_now_fixed = inverse(pose_at(stamp_ns))
    returns = is_return(points)
    if not returns.any():
        return points
    offsets_ns = offsets_ns[returns]
    begin_ns, end_ns = int(offsets_ns.min()), int(offsets_ns.max())
    count = max(1, -(-(end_ns - begin_ns) // KNOT_NS))
    # Stamps themselves are rounded by 128 ns as floats, past the newest transform now and then.
    knots_ns = cloud_ns + np.linspace(begin_ns, end_ns, count + 1).astype(np.int64)
    T_now_knot = np.stack([T_now_fixed @ pose_at(int(knot)) for knot in knots_ns])
    at = (offsets_ns - begin_ns) * (count / max(end_ns - begin_ns, 1))
    index = np.minimum(at.astype(np.intp), count - 1)
    share = (at - index)[:, None, None]
    T_now_point = (1 - share) * T_now_knot[index, :3] + share * T_now_knot[index + 1, :3]
    moved = points.copy()
    xyz = points[returns, :3].astype(np.float64)
    moved[returns, :3] = np.einsum("nij,nj->ni", T_now_point[..., :3], xyz) + T_now_point[..., 3]
    return moved
