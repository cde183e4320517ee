"""Waymo's files, decoded: rows of parquet tables, and range images to points.

A range image is a LiDAR turn as an image: each row is one beam, the highest first; the columns
go clockwise, from azimuth +pi to -pi about the *vehicle's* z axis. The first channels are range
(metres, > 0 where there is a return) and intensity.

Format: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import check_rigid, inverse, transform

BATCH_BYTES = 16 << 20
"""Decoded at a time while a row is looked up inside its row group."""
TIMESTAMP, LASER = "key.frame_timestamp_micros", "key.laser_name"
TOP = 1
"""Number of the roof LiDAR, the one whose pixels each have a pose."""

BEAMS = ("beam_inclination.values", "beam_inclination.min", "beam_inclination.max")
"""Pitches, lowest first, or else the limits of evenly spaced ones."""

Row = dict[str, Any]


def require_pyarrow() -> tuple[Any, Any]:
    """Modules ``pyarrow`` and ``pyarrow.parquet``, or an ImportError that says how to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('reading Waymo needs pyarrow: pip install "lemumo_ros[train]"') from error
    return pyarrow, pyarrow.parquet


class Table:
    """One parquet file. Holds its footer and where keys are, but never the file open.

    Args:
        path: the file.
        component: name that its columns carry, e.g. ``LiDARComponent``.

    Raises:
        Fault: ``bad_table`` for a file that is cut off or not parquet; methods raise it for
            missing columns and keys too.
    """

    def __init__(self, path: Path, component: str):
        self.path, self.component = path, component
        with self._named():
            self.footer = require_pyarrow()[1].read_metadata(path)
            self.columns = set(self.footer.schema.to_arrow_schema().names)
        groups = [self.footer.row_group(i) for i in range(self.footer.num_row_groups)]
        self.starts = [0, *accumulate(group.num_rows for group in groups)]
        self._indices: dict[tuple[str, ...], dict[tuple[int, ...], list[int]]] = {}

    def index(self, *keys: str) -> dict[tuple[int, ...], list[int]]:
        """Values of key columns to the numbers of the rows that have them."""
        if keys not in self._indices:
            self._check(keys)
            with self._open() as file:
                values = file.read(columns=list(keys), use_threads=False).to_pydict()
            index = defaultdict(list)
            for row, key in enumerate(zip(*(values[key] for key in keys), strict=True)):
                index[key].append(row)
            self._indices[keys] = dict(index)
        return self._indices[keys]

    def row(self, where: dict[str, int], *columns: str) -> Row:
        """The one row whose key columns have these values; see ``rows``."""
        rows = self.rows(where, *columns)
        if len(rows) != 1:
            wanted = ", ".join(f"{key} = {value}" for key, value in where.items())
            raise Fault("bad_table", f"{self.path} has {len(rows)} rows of {wanted}; expected one")
        return rows[0]

    def rows(self, where: dict[str, int], *columns: str) -> list[Row]:
        """All rows whose key columns have these values, decoding only their row groups.

        Args:
            where: key columns to values.
            columns: key columns, and others without the component's name.

        Returns:
            One dict a row, in the order of the file; lists are (read-only) arrays.
        """
        names = {
            column if column.startswith("key.") else f"[{self.component}].{column}": column
            for column in columns
        }
        self._check(names)
        rows = self.index(*where).get(tuple(where.values()), [])
        found: dict[int, Row] = {}
        with self._open() as file:
            for group in sorted({bisect_right(self.starts, row) - 1 for row in rows}):
                first, end = self.starts[group : group + 2]
                wanted = {row for row in rows if first <= row < end}
                size = max(self.footer.row_group(group).total_byte_size, 1)
                for batch in file.iter_batches(
                    batch_size=max(1, BATCH_BYTES * (end - first) // size),
                    row_groups=[group],
                    columns=list(names),
                    use_threads=False,
                ):
                    for row in sorted(wanted.intersection(range(first, first + len(batch)))):
                        found[row] = {
                            column: _value(batch.column(name)[row - first])
                            for name, column in names.items()
                        }
                    wanted.difference_update(found)
                    first += len(batch)
                    if not wanted:
                        break
        return [found[row] for row in rows]

    def _check(self, names: Iterable[str]) -> None:
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise Fault(
                "bad_table",
                f"{self.path} has no column {', '.join(missing)}; expected Waymo Open Dataset v2",
            )

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with (
            self._named(),
            require_pyarrow()[1].ParquetFile(
                self.path, metadata=self.footer, memory_map=True, pre_buffer=False
            ) as file,
        ):
            yield file

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of pyarrow as Faults that name the file."""
        try:
            yield
        except (require_pyarrow()[0].ArrowException, OSError) as error:
            raise Fault(
                "bad_table", f"{self.path} is not a whole parquet file; download it again: {error}"
            ) from None


def open_table(path: Path, component: str) -> Table:
    """The Table of a file, kept for the next call as long as the file does not change."""
    return _open_table(path, component, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=128)
def _open_table(path: Path, component: str, _modified: int) -> Table:
    return Table(path, component)


def _value(scalar: Any) -> Any:
    values = getattr(scalar, "values", None)  # of a list
    return scalar.as_py() if values is None else values.to_numpy(zero_copy_only=False)


def rigid(values: np.ndarray, table: Table) -> np.ndarray:
    """Flat ``transform`` column of a table to (4, 4); Fault ``bad_transform`` if it is none."""
    if np.size(values) != 16:
        raise Fault("bad_transform", f"{table.path}: a transform must hold 16 numbers: {values}")
    return check_rigid(np.reshape(values, (4, 4)), f"a transform in {table.path}")


def lidar_points(
    lidar: Table,
    mounts: Table,
    poses: Table,
    time: int,
    returns: Sequence[int],
    T_world_vehicle: np.ndarray,
) -> np.ndarray:
    """Points of all LiDARs at one instant.

    Args:
        lidar, mounts, poses: ``lidar``, ``lidar_calibration`` and ``lidar_pose``.
        time: the frame's, microseconds.
        returns: of (1, 2).
        T_world_vehicle: the vehicle at ``time``.

    Returns:
        float32 (N, 4) x, y, z, intensity in the vehicle frame, by LiDAR, then by return.

    Raises:
        Fault: ``bad_table``, ``bad_points``, ``bad_calibration`` or ``bad_transform``.
    """
    clouds = []
    scans = lidar.rows({TIMESTAMP: time}, LASER, *_parts(returns))
    for scan in sorted(scans, key=lambda row: row[LASER]):
        laser = scan[LASER]
        mount = mounts.row({LASER: laser}, "extrinsic.transform", *BEAMS)
        T_vehicle_lidar = rigid(mount["extrinsic.transform"], mounts)
        pose = None
        if laser == TOP:
            pose = _range_image(poses.row({TIMESTAMP: time, LASER: TOP}, *_parts([1])), 1, poses)
        for number in returns:
            image = _range_image(scan, number, lidar)
            if image is None:
                continue
            height, width, _ = image.shape
            if laser == TOP and (pose is None or pose.shape != (height, width, 6)):
                raise Fault(
                    "bad_points",
                    f"{poses.path} has not one pose per pixel of the {width}x{height} range image",
                )
            beams = _inclinations(mount, height, mounts)
            clouds.append(range_image_points(image, beams, T_vehicle_lidar, T_world_vehicle, pose))
    if not clouds:
        raise Fault("bad_table", f"{lidar.path} has no range image at {TIMESTAMP} = {time}")
    return np.concatenate(clouds)


def _parts(returns: Sequence[int]) -> list[str]:
    return [f"range_image_return{r}.{part}" for r in returns for part in ("values", "shape")]


def _range_image(row: Row, number: int, table: Table) -> np.ndarray | None:
    """Range image (H, W, C) of one return; None where it is empty."""
    values, shape = (row[part] for part in _parts([number]))
    if values is None or not len(values):
        return None
    if shape is None or len(shape) != 3 or shape[2] < 2 or np.prod(shape) != len(values):
        raise Fault(
            "bad_points", f"{table.path}: {len(values)} values in a range image of shape {shape}"
        )
    return values.reshape(shape)


def _inclinations(mount: Row, height: int, table: Table) -> np.ndarray:
    """Pitch of each row of a range image, radians, highest first: (height,)."""
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
    """Returns of one range image as points in the vehicle frame.

    Args:
        image: (H, W, >=2) range and intensity; rows and columns as in the module's docstring.
        inclinations: (H,) pitch of each row, radians, up is positive.
        T_vehicle_lidar: mount of the LiDAR.
        T_world_vehicle: the vehicle at the frame's instant.
        poses: (H, W, 6) roll, pitch, yaw, x, y, z of the vehicle in the world when each pixel was
            measured; None where the points already belong to the frame's instant.

    Returns:
        float32 (N, 4) x, y, z, intensity, row by row.
    """
    width = image.shape[1]
    rows, columns = np.nonzero(image[..., 0] > 0)
    distance = image[rows, columns, 0].astype(np.float64)
    mount_yaw = np.arctan2(T_vehicle_lidar[1, 0], T_vehicle_lidar[0, 0])
    azimuth = np.pi * (1 - 2 * (columns + 0.5) / width) - mount_yaw
    pitch = inclinations[rows]
    across = distance * np.cos(pitch)
    ray = [across * np.cos(azimuth), across * np.sin(azimuth), distance * np.sin(pitch)]
    xyz = transform(T_vehicle_lidar, np.stack(ray, axis=1))
    if poses is not None:
        pose = poses[rows, columns].astype(np.float64)
        xyz = np.einsum("nij,nj->ni", _rotations(pose[:, :3].T), xyz) + pose[:, 3:]
        xyz = transform(inverse(T_world_vehicle), xyz)
    return np.column_stack([xyz, image[rows, columns, 1]]).astype(np.float32)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (3, N), radians, to Rz(yaw) Ry(pitch) Rx(roll), (N, 3, 3)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles), np.sin(angles)
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
