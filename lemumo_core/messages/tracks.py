"""Ids, poses and velocities of tracks in the messages of detections, and as markers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lemumo_core.frame import NO_TRACK, Tracks
from lemumo_core.messages.builder import MessageBuilder


def track_names(tracks: Tracks | None) -> tuple[str, ...]:
    """Return the ids of detections as messages have them: empty without a track; () of None."""
    if tracks is None:
        return ()
    return tuple("" if number == NO_TRACK else str(number) for number in tracks.ids.tolist())


def add_poses(
    build: MessageBuilder, message: Any, tracks: Tracks, T_output_camera: np.ndarray
) -> None:
    """Give the hypotheses of detections the position that their track makes of them.

    The boxes stay what was detected; ``results[0].pose`` becomes that of the track, with the
    covariance of its position. Messages of vision_msgs have no velocity.

    Args:
        build: builder of the message.
        message: Detection3DArray of the detections, in their order.
        tracks: of the same detections.
        T_output_camera: as for ``MessageBuilder.detections_3d``.
    """
    for i in np.flatnonzero(tracks.ids != NO_TRACK).tolist():
        found = message.detections[i].results[0].pose
        orientation = found.pose.orientation
        found.pose, found.covariance = pose_of_track(build, tracks, i, T_output_camera, orientation)


def pose_of_track(
    build: MessageBuilder, tracks: Tracks, i: int, T_output_camera: np.ndarray, orientation: Any
) -> tuple[Any, np.ndarray]:
    """Return what a track makes of its position, and the covariance of that.

    Args:
        build: builder of the message.
        tracks: some.
        i: row of the track.
        T_output_camera: as for ``MessageBuilder.detections_3d``.
        orientation: that of the detection, which tracks leave as it is.

    Returns:
        A geometry_msgs/Pose, and float64 (36,) as in PoseWithCovariance, of which only the
        position is known; the rest is 0.
    """
    R, t = T_output_camera[:3, :3], T_output_camera[:3, 3]
    position = build.xyz("Point", (R @ tracks.centers[i].astype(np.float64) + t).tolist())
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = R @ tracks.covariances[i, :3, :3].astype(np.float64) @ R.T
    pose = build.new("geometry_msgs/Pose", position=position, orientation=orientation)
    return pose, covariance.reshape(36)


def twist(tracks: Tracks, i: int, R_axes_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the velocity of a track along other axes, and its covariance.

    Args:
        tracks: some.
        i: row of the track.
        R_axes_camera: (3, 3), from the axes of the camera to the others.

    Returns:
        Float64 (3,), m/s, and (36,) as in TwistWithCovariance, of which only the linear part is
        known; the rest is 0.
    """
    velocity = R_axes_camera @ tracks.velocities[i].astype(np.float64)
    covariance = np.zeros((6, 6))
    linear = tracks.covariances[i, 3:, 3:].astype(np.float64)
    covariance[:3, :3] = R_axes_camera @ linear @ R_axes_camera.T
    return velocity, covariance.reshape(36)
