"""PandaSet as Frames: six cameras around the vehicle and its LiDARs.

Points and boxes are in the world, and each camera has its pose there at the time of its image, so
that what stands is where it was whatever the vehicle's motion. A Frame's points are in the frame of
the LiDAR at the sweep, from where ``T_camera_lidar`` brings them to the camera by way of the world.

Images follow the pinhole of ``intrinsics.json``, as the devkit projects into them.

Format: Xiao et al., ITSC 2021, and README and docstrings of github.com/scaleapi/pandaset-devkit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lemumo_core.data.sources.annotations import NORM_TOLERANCE, Annotations, visible_labels
from lemumo_core.data.sources.files import existing, read_image, warn_of_unpaired
from lemumo_core.data.sources.pickled_tables import read_pickled_columns, require_pandas
from lemumo_core.data.sources.recently_used import RecentlyUsed
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import count_points
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, rotation_from_quaternion, transform

LAYOUT = (
    "SEQUENCE/{lidar/{NN.pkl.gz, poses.json, timestamps.json}, "
    "camera/CAMERA/{NN.jpg, intrinsics.json, poses.json, timestamps.json}"
    "[, annotations/{cuboids/NN.pkl.gz, semseg/{NN.pkl.gz, classes.json}}]}"
)
CAMERAS = tuple(
    f"{where}_camera" for where in ("front", "front_right", "right", "back", "left", "front_left")
)
"""All six, clockwise."""
SPINNING, FORWARD = 0, 1
"""Numbers of the LiDARs: the one on the roof, and the one that looks ahead."""
LIDARS = {"spinning": (SPINNING,), "forward": (FORWARD,), "both": (SPINNING, FORWARD)}
POINT = ("x", "y", "z", "i")
CUBOID = ("uuid", "label", "yaw", "cuboids.sensor_id")
CENTER = tuple(f"position.{axis}" for axis in "xyz")
SIZE = tuple(f"dimensions.{axis}" for axis in "yxz")
"""Length, width and height: a cuboid's own y axis is ahead."""


class PandaSet:
    """Sweeps of the sequences, each with the image of every camera, in order of both.

    Args:
        root: folder that holds the sequences, or one of them.
        cameras: of ``CAMERAS``, or one of them.
        lidar: whose points are taken. Of a moving object that both LiDARs see there are two boxes,
            since they see it at different times: of these the one of this LiDAR, of both the
            spinning one's.

    Each Frame has a LidarScan (x, y, z, intensity 0 to 255), its pose in the world and, where the
    sequence is annotated, Labels: 3D boxes with their tracks and the points in them (which boxes
    are kept: see ``visible_labels``), and the classes of points. Names are those of the data set;
    ``--classes pandaset`` are all of them.

    Raises:
        ImportError: pandas is not installed.
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_table``, ``bad_labels``, ``bad_point_labels``,
            ``bad_camera`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        cameras: str | Sequence[str] = CAMERAS,
        lidar: Literal["spinning", "forward", "both"] = "spinning",
    ):
        require_pandas()
        self.root, self.lidar = existing(Path(root), LAYOUT), lidar
        self.cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        if unknown := [name for name in self.cameras if name not in CAMERAS]:
            raise Fault("unknown_camera", f"{unknown[0]} is none of {', '.join(CAMERAS)}")
        found = (path for depth in ("", "*/") for path in self.root.glob(f"{depth}lidar"))
        self.sequences = sorted(path.parent for path in found if path.is_dir())
        if not self.sequences:
            raise FileNotFoundError(f"{root} holds no sequence; expected {LAYOUT}")
        self.frames: list[tuple[int, int, str]] = []
        """Number of the sequence, number of the sweep and of its images, camera."""
        unpaired = []
        for number, sequence in enumerate(self.sequences):
            sweeps = _numbers(sequence / "lidar", ".pkl.gz")
            images = {one: _numbers(sequence / "camera" / one, ".jpg") for one in self.cameras}
            for at in sorted(sweeps.union(*images.values())):
                for camera in self.cameras:
                    if at in sweeps and at in images[camera]:
                        self.frames.append((number, at, camera))
                    else:
                        unpaired.append(f"{sequence.name}/{camera}/{at:02d}")
        if not self.frames:
            raise FileNotFoundError(
                f"{root} holds no sweep beside {', '.join(self.cameras)}; expected {LAYOUT}"
            )
        warn_of_unpaired(self.root, unpaired, len(self.frames) + len(unpaired))
        self._opened = RecentlyUsed(_Sequence, self.sequences)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        number, at, name = self.frames[index]
        sequence = self._opened[number]
        path = sequence.folder / "camera" / name / f"{at:02d}.jpg"
        image = read_image(existing(path, LAYOUT))
        camera = sequence.camera(name, image.shape[1], image.shape[0])
        T_world_camera, T_world_lidar = (
            sequence.pose(f"camera/{name}", at),
            sequence.pose("lidar", at),
        )
        T_camera_world = inverse(T_world_camera)
        in_world, intensity, kept = sequence.points(at, LIDARS[self.lidar])
        points = np.column_stack([transform(inverse(T_world_lidar), in_world), intensity])
        point_labels = sequence.point_labels(at, kept)
        boxes, labels = sequence.boxes(at, LIDARS[self.lidar][0]), None
        if boxes is not None:
            with contents_of(sequence.cuboids(at)):
                labels = visible_labels(boxes, T_camera_world, camera, point_labels)
            in_camera = transform(T_camera_world, in_world)
            counts = count_points(in_camera, np.asarray(labels.boxes_3d, np.float64))
            labels = replace(labels, num_points=counts, label_names=sequence.label_names)
        elif point_labels is not None:
            labels = Labels(point_labels=point_labels, label_names=sequence.label_names)
        return Frame(
            stamp_ns=sequence.stamp_ns(f"camera/{name}", at),
            camera_name=name,
            camera=camera,
            image=image,
            companion=LidarScan(
                points=np.ascontiguousarray(points, np.float32),
                T_camera_lidar=T_camera_world @ T_world_lidar,
                stamp_ns=sequence.stamp_ns("lidar", at),
            ),
            labels=labels,
            T_fixed_camera=T_world_camera,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "pandaset",
            "root": str(self.root),
            "cameras": list(self.cameras),
            "lidar": self.lidar,
            "sequences": len(self.sequences),
            "frames": len(self),
        }


class _Sequence:
    """Files of a sequence; a sensor is its folder, ``lidar`` or ``camera/NAME``."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._values: dict[Path, Any] = {}

    def camera(self, name: str, width: int, height: int) -> Camera:
        """Return the model of a camera whose images have this size."""
        path = self.folder / "camera" / name / "intrinsics.json"
        with contents_of(path):
            values = self._json(path)
            fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
            K = [fx, 0, cx, 0, fy, cy, 0, 0, 1]
            return Camera.from_calibration(width, height, K, "pinhole", [])

    def pose(self, sensor: str, at: int) -> np.ndarray:
        """Return the pose of a sensor in the world, float64 (4, 4)."""
        path = self.folder / sensor / "poses.json"
        try:
            row = self._json(path)[at]
            rotation = np.array([row["heading"][key] for key in "wxyz"], np.float64)
            translation = np.array([row["position"][key] for key in "xyz"], np.float64)
            is_pose = abs(rotation @ rotation - 1) <= NORM_TOLERANCE
        except (LookupError, TypeError, ValueError) as error:
            raise Fault("bad_table", f"{path} has no pose of number {at}: {error!r}") from None
        if not is_pose or not np.isfinite(translation).all():
            raise Fault("bad_table", f"{path} holds a pose of number {at} that is none: {row}")
        return make_T(rotation_from_quaternion(*(rotation / np.linalg.norm(rotation))), translation)

    def stamp_ns(self, sensor: str, at: int) -> int:
        """Return when a sensor recorded, ns."""
        path = self.folder / sensor / "timestamps.json"
        try:
            return round(float(self._json(path)[at]) * 1e6) * 1000
        except (LookupError, TypeError, ValueError) as error:
            raise Fault("bad_table", f"{path} has no time of number {at}: {error!r}") from None

    def points(self, at: int, lidars: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the returns of some LiDARs.

        Returns:
            float64 (N, 3), metres in the world; intensities (N,); which of the rows of the file
            they are, bool (M,).
        """
        path = self.folder / "lidar" / f"{at:02d}.pkl.gz"
        columns = read_pickled_columns(path, (*POINT, "d"), LAYOUT)
        kept = np.isin(columns["d"], lidars)
        x, y, z, intensity = (columns[name][kept].astype(np.float64) for name in POINT)
        return np.column_stack([x, y, z]), intensity, kept

    def cuboids(self, at: int) -> Path:
        """Return the file of the boxes of a sweep."""
        return self.folder / "annotations" / "cuboids" / f"{at:02d}.pkl.gz"

    def boxes(self, at: int, lidar: int) -> Annotations | None:
        """Return the boxes in the world, of two of one object that of a LiDAR; None without any."""
        path = self.cuboids(at)
        if not path.exists():
            return None
        table = read_pickled_columns(path, (*CUBOID, *CENTER, *SIZE), LAYOUT)
        with contents_of(path):
            rows = np.flatnonzero(np.isin(table["cuboids.sensor_id"].astype(np.int64), (-1, lidar)))
            # At a yaw of 0 a cuboid looks along y, and a box along x.
            half = (table["yaw"][rows].astype(np.float64) + np.pi / 2) / 2
            zero = np.zeros(len(rows))
            centers = [table[name][rows].astype(np.float64) for name in CENTER]
            return Annotations(
                poses=np.column_stack([*centers, np.cos(half), zero, zero, np.sin(half)]),
                sizes=np.column_stack([table[name][rows].astype(np.float64) for name in SIZE]),
                names=tuple(str(name) for name in table["label"][rows]),
                num_points=np.zeros(len(rows), np.int32),
                track_ids=tuple(str(name) for name in table["uuid"][rows]),
            )

    def point_labels(self, at: int, kept: np.ndarray) -> np.ndarray | None:
        """Return the class ids of the returns that are kept; None where there are none."""
        path = self.folder / "annotations" / "semseg" / f"{at:02d}.pkl.gz"
        if not path.exists():
            return None
        ids = read_pickled_columns(path, ("class",), LAYOUT)["class"].astype(np.int64)
        if len(ids) != len(kept):
            raise Fault("bad_point_labels", f"{path} labels {len(ids)} of {len(kept)} returns")
        named = np.array([bool(name) for name in self.label_names])
        known = (ids >= 0) & (ids < len(named))
        known[known] = named[ids[known]]
        return np.where(known, ids, UNLABELLED).astype(np.uint8)[kept]

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Names of the class ids of returns; empty where there are none."""
        path = self.folder / "annotations" / "semseg" / "classes.json"
        if not path.exists():
            return ()
        with contents_of(path):
            names = {int(number): str(name) for number, name in self._json(path).items()}
            return tuple(names.get(i, "") for i in range(max(names) + 1))

    def _json(self, path: Path) -> Any:
        if path not in self._values:
            try:
                self._values[path] = json.loads(existing(path, LAYOUT).read_bytes())
            except ValueError as error:
                raise Fault("bad_table", f"{path} is not JSON: {error}") from None
        return self._values[path]


def _numbers(folder: Path, suffix: str) -> set[int]:
    """Return the numbers that files are named by; none without the folder."""
    names = (path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    return {int(name) for name in names if name.isdigit()}
