"""Waymo's range images converted to points.

A range image is a LiDAR turn as an image: each row is one beam, the highest first; the columns
go clockwise, from azimuth +pi to -pi about the *vehicle's* z axis. The first channels are range
(metres, > 0 where there is a return) and intensity.

Source: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2/perception
(lidar.py, context.py, utils/lidar_utils.py) and utils/range_image_utils.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.data.sources.waymo_table import LASER, TIMESTAMP, Row, Table, rigid
from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import inverse, transform

TOP = 1
"""Number of the roof LiDAR, the one whose pixels each have a pose."""
BEAMS = ("beam_inclination.values", "beam_inclination.min", "beam_inclination.max")
"""Pitches, lowest first, or else the limits of evenly spaced ones."""


def lidar_points(
    lidar: Table,
    mounts: Table,
    poses: Table,
    time: int,
    returns: Sequence[int],
    T_world_vehicle: np.ndarray,
) -> np.ndarray:
    """Return the points of all LiDARs at one time.

    Args:
        lidar: the table ``lidar``.
        mounts: the table ``lidar_calibration``.
        poses: the table ``lidar_pose``.
        time: key of the frame, microseconds.
        returns: of (1, 2).
        T_world_vehicle: pose of the frame.

    Returns:
        float32 (N, 4) x, y, z, intensity in the vehicle frame, by LiDAR, then by return.

    Raises:
        Fault: ``bad_table``, ``bad_points``, ``bad_calibration`` or ``bad_transform``.
    """
    clouds = []
    scans = lidar.rows(TIMESTAMP, time, LASER, *_parts(returns))
    for scan in sorted(scans, key=lambda row: row[LASER]):
        laser = scan[LASER]
        mount = mounts.row(LASER, laser, "extrinsic.transform", *BEAMS)
        T_vehicle_lidar = rigid(mount["extrinsic.transform"], mounts)
        for number in returns:
            image = _range_image(scan, number, lidar)
            if image is None:
                continue
            pose = _pixel_poses(poses, time, image.shape[:2]) if laser == TOP else None
            beams = _inclinations(mount, len(image), mounts)
            clouds.append(range_image_points(image, beams, T_vehicle_lidar, T_world_vehicle, pose))
    if not clouds:
        raise Fault("bad_table", f"{lidar.path} has no range image at {TIMESTAMP} = {time}")
    return np.concatenate(clouds)


def _parts(returns: Sequence[int]) -> list[str]:
    return [f"range_image_return{r}.{part}" for r in returns for part in ("values", "shape")]


def _range_image(row: Row, number: int, table: Table) -> np.ndarray | None:
    """Return the range image (H, W, C) of one return; None where it is empty."""
    values, shape = (row[part] for part in _parts([number]))
    if values is None or not len(values):
        return None
    if shape is None or len(shape) != 3 or shape[2] < 2 or np.prod(shape) != len(values):
        raise Fault(
            "bad_points", f"{table.path}: {len(values)} values in a range image of shape {shape}"
        )
    return values.reshape(shape)


def _pixel_poses(poses: Table, time: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the poses (H, W, 6) of the top LiDAR's pixels; both returns share the first's."""
    for row in poses.rows(TIMESTAMP, time, LASER, *_parts([1])):
        image = _range_image(row, 1, poses) if row[LASER] == TOP else None
        if image is not None and image.shape == (*shape, 6):
            return image
    raise Fault(
        "bad_points",
        f"{poses.path} has not one pose per pixel of the range image {shape} at "
        f"{TIMESTAMP} = {time}",
    )


def _inclinations(mount: Row, height: int, table: Table) -> np.ndarray:
    """Return the pitch of each row of a range image, radians, highest first: (height,)."""
    values, low, high = (mount[name] for name in BEAMS)
    if values is None or not len(values):  # evenly spaced, each beam in the middle of its share
        values = low + (high - low) * (np.arange(height) + 0.5) / height
    if len(values) != height:
        raise Fault(
            "bad_calibration",
            f"{table.path} has {len(values)} beam inclinations for {height} range image rows",
        )
    return values[::-1]


def range_image_points(
    image: np.ndarray,
    inclinations: np.ndarray,
    T_vehicle_lidar: np.ndarray,
    T_world_vehicle: np.ndarray,
    poses: np.ndarray | None = None,
) -> np.ndarray:
    """Convert the returns of one range image to points in the vehicle frame.

    Args:
        image: (H, W, >=2) range and intensity; rows and columns as in the module's docstring.
        inclinations: (H,) pitch of each row, radians, up is positive.
        T_vehicle_lidar: mount of the LiDAR.
        T_world_vehicle: pose of the frame.
        poses: (H, W, 6) roll, pitch, yaw, x, y, z of the vehicle in the world when each pixel was
            measured; the rotation is Rz(yaw) Ry(pitch) Rx(roll). None where the points already
            belong to the frame's pose.

    Returns:
        float32 (N, 4) x, y, z, intensity, row by row.
    """
    width = image.shape[1]
    rows, columns = np.nonzero(image[..., 0] > 0)
    distance = image[rows, columns, 0].astype(np.float64)
    mount_yaw = np.arctan2(T_vehicle_lidar[1, 0], T_vehicle_lidar[0, 0])
    azimuth = np.pi * (1 - 2 * (np.arange(width) + 0.5) / width) - mount_yaw
    across = distance * np.cos(inclinations)[rows]
    x, y = across * np.cos(azimuth)[columns], across * np.sin(azimuth)[columns]
    z = distance * np.sin(inclinations)[rows]
    xyz = transform(T_vehicle_lidar, np.stack([x, y, z], axis=1))
    if poses is not None:
        pose = poses[rows, columns].astype(np.float64)
        (x, y, z), (roll, pitch, yaw) = xyz.T, pose[:, :3].T
        y, z = _turn(y, z, roll)
        z, x = _turn(z, x, pitch)
        x, y = _turn(x, y, yaw)
        in_world = np.stack([x, y, z], axis=1) + pose[:, 3:]
        xyz = transform(inverse(T_world_vehicle), in_world)
    return np.column_stack([xyz, image[rows, columns, 1]]).astype(np.float32)


def _turn(a: np.ndarray, b: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate from the axis of a towards that of b."""
    c, s = np.cos(angle), np.sin(angle)
    return c * a - s * b, s * a + c * b
