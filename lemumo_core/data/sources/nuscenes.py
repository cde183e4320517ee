"""nuScenes v1.0 as Frames, read from its JSON tables without the devkit.

One Frame is a keyframe of one camera and LIDAR_TOP. Sensors fire at different times while the car
moves, so points travel LiDAR -> ego(t_lidar) -> world -> ego(t_camera) -> camera; that chain is
the Frame's ``T_camera_lidar`` and differs from frame to frame.

Format: https://www.nuscenes.org/nuscenes#data-format (Caesar et al., CVPR 2020) and, for
lidarseg, Fong et al., RA-L 2022.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.data.sources.files import (
    existing,
    read_image,
    read_points,
    warn_of_unpaired,
)
from lemumo_core.data.sources.nuscenes_shot import Row, Shot
from lemumo_core.data.sources.nuscenes_splits import split_scenes
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.se3 import inverse

LAYOUT = "{v1.0-*/*.json, samples/{LIDAR_TOP,CAM_*}/*}"
LIDAR = "LIDAR_TOP"
CAMERAS = tuple(
    f"CAM_{where}"
    for where in ("FRONT", "FRONT_RIGHT", "BACK_RIGHT", "BACK", "BACK_LEFT", "FRONT_LEFT")
)
"""All six, clockwise."""
POINT_COLUMNS = 5
"""x, y, z, intensity, ring."""
VISIBILITY = {"1": 0.2, "2": 0.5, "3": 0.7, "4": 0.9}
"""Token to the middle of its bin: 0-40, 40-60, 60-80, 80-100 % seen, over all six cameras."""


class NuScenes:
    """Keyframes with LIDAR_TOP, one Frame per camera.

    They are ordered by the keyframe's time and then as ``cameras`` is.

    Args:
        root: folder that holds ``v1.0-*`` and ``samples``.
        cameras: channels, or the name of one.
        version: folder of the tables; may be left out where there is only one.
        split: official split, e.g. ``train``, ``val``, ``mini_train``; None for all scenes. There
            is deliberately no random split: neighbouring frames would leak into it.

    Each Frame has a LidarScan (x, y, z, intensity 0..255), its pose on the map and Labels. Which
    boxes are kept: see ``visible_labels``. Class names are nuScenes categories. Visibility is the
    middle of the annotated bin, NaN where none is given. Where the lidarseg expansion is installed,
    ``point_labels`` holds its classes, which ``label_names`` name. Tables without annotations (the
    test set) have no boxes, and without lidarseg either, labels are None.

    Raises:
        FileNotFoundError: a missing folder, table or sensor file, with the expected layout.
        Fault: ``ambiguous_version``, ``unknown_camera``, ``bad_split``, ``bad_table``,
            ``bad_points``, ``bad_point_labels`` or ``bad_image``.
    """

    lidar, layout = LIDAR, LAYOUT
    """Channel of the LiDAR, and what is expected where a file is missing."""

    def __init__(
        self,
        root: str | Path,
        cameras: str | Sequence[str] = CAMERAS,
        version: str | None = None,
        split: str | None = None,
    ):
        self.root = Path(root)
        self.cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        self.split = split
        self.tables = self._tables_folder(version)
        self._read_tables()
        for channel in (*self.cameras, self.lidar):
            existing(self.root / "samples" / channel, self.layout)

    def _read_tables(self) -> None:
        """Read which Frames there are, their annotations and the classes of their points."""
        with contents_of(self.tables):
            samples = self._samples()
            self.keyframes = self._keyframes(samples)
            categories = self._load("category")
            self.annotations = self._annotations(categories, samples)
            self.lidarseg: dict[str, str] = {}
            self.label_names: tuple[str, ...] = ()
            if (self.tables / "lidarseg.json").exists():
                rows = self._load("lidarseg")
                self.lidarseg = {row["sample_data_token"]: row["filename"] for row in rows}
                names = {
                    row["index"]: row["name"] for row in categories if row["index"] is not None
                }
                self.label_names = tuple(names.get(i, "") for i in range(max(names) + 1))

    def __len__(self) -> int:
        return len(self.keyframes)

    def __getitem__(self, index: int) -> Frame:
        sample, channel, shot, sweep = self.keyframes[index]
        image = read_image(existing(self.root / shot.file, self.layout))
        with contents_of(self.tables):
            T_world_camera, T_world_lidar = shot.T_world_sensor, sweep.T_world_sensor
            camera = shot.camera_of(image, self.root / shot.file)
        T_camera_world = inverse(T_world_camera)
        points = self._points(sweep)
        point_labels = self._point_labels(sweep, len(points))
        labels = None
        if self.annotations is not None:
            found = self.annotations[sample]
            with contents_of(self.tables / "sample_annotation.json"):
                labels = visible_labels(found, T_camera_world, camera, point_labels)
            labels = replace(labels, label_names=self.label_names)
        elif point_labels is not None:
            labels = Labels(point_labels=point_labels, label_names=self.label_names)
        return Frame(
            stamp_ns=shot.stamp_ns,
            camera_name=channel,
            camera=camera,
            image=image,
            companion=LidarScan(
                points=np.ascontiguousarray(points),
                T_camera_lidar=T_camera_world @ T_world_lidar,
                stamp_ns=sweep.stamp_ns,
            ),
            labels=labels,
            T_fixed_camera=T_world_camera,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "nuscenes",
            "root": str(self.root),
            "version": self.tables.name,
            "split": self.split,
            "cameras": list(self.cameras),
            "frames": len(self),
        }

    def _points(self, sweep: Shot) -> np.ndarray:
        return read_points(existing(self.root / sweep.file, self.layout), POINT_COLUMNS)

    def _tables_folder(self, version: str | None) -> Path:
        if version is not None:
            return existing(self.root / version, self.layout)
        found = sorted(path for path in self.root.glob("v1.0-*") if path.is_dir())
        if not found:
            raise FileNotFoundError(f"{self.root} holds no v1.0-* folder; expected {self.layout}")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise Fault("ambiguous_version", f"{self.root} holds {names}; choose one by version")
        return found[0]

    def _load(self, name: str) -> list[Row]:
        file = existing(self.tables / f"{name}.json", self.layout)
        try:
            rows: list[Row] = json.loads(file.read_bytes())
        except ValueError as error:
            raise Fault("bad_table", f"{file} is not JSON: {error}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Fault("bad_table", f"{file} is no list of rows: is the download complete?")
        return rows

    def _samples(self) -> list[str]:
        """Return the tokens of the split's keyframes, ordered by time."""
        rows = self._load("sample")
        if self.split is not None:
            wanted = split_scenes(self.split, self.tables)
            scenes = {row["token"] for row in self._load("scene") if row["name"] in wanted}
            rows = [row for row in rows if row["scene_token"] in scenes]
            if not rows:
                raise Fault("bad_split", f"{self.tables} holds no keyframe of split {self.split}")
        return [row["token"] for row in sorted(rows, key=lambda row: row["timestamp"])]

    def _keyframes(self, samples: list[str]) -> list[tuple[str, str, Shot, Shot]]:
        """Return sample token, channel, image and sweep of every Frame, in order."""
        channels = {row["token"]: row["channel"] for row in self._load("sensor")}
        mounts = {row["token"]: row for row in self._load("calibrated_sensor")}
        wanted = set(samples)
        rows: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in self._load("sample_data"):
            if row["is_key_frame"] and row["sample_token"] in wanted and row.get("is_valid", True):
                mount = mounts[row["calibrated_sensor_token"]]
                rows[row["sample_token"]][channels[mount["sensor_token"]]] = row
        pairs = [
            (sample, camera, rows[sample][camera], rows[sample][self.lidar])
            for sample in samples
            for camera in self.cameras
            if {camera, self.lidar} <= rows[sample].keys()
        ]
        seen = {camera for _, camera, _, _ in pairs}
        if missing := [camera for camera in self.cameras if camera not in seen]:
            known = sorted({channel for shots in rows.values() for channel in shots})
            raise Fault(
                "unknown_camera",
                f"{self.tables} has no keyframe with both {missing[0]} and {self.lidar}; it has "
                f"{', '.join(known) or 'none'}",
            )
        unpaired = [
            f"{camera} of sample {sample}"
            for sample in samples
            for camera in self.cameras
            if not {camera, self.lidar} <= rows[sample].keys()
        ]
        warn_of_unpaired(self.root, unpaired, len(pairs) + len(unpaired))
        used = {row["ego_pose_token"] for pair in pairs for row in pair[2:]}
        poses = {row["token"]: row for row in self._load("ego_pose") if row["token"] in used}

        def shot(row: Row) -> Shot:
            mount, pose = mounts[row["calibrated_sensor_token"]], poses[row["ego_pose_token"]]
            size = row["width"], row["height"]
            return Shot(row["token"], row["filename"], row["timestamp"] * 1000, size, mount, pose)

        return [
            (sample, camera, shot(image), shot(sweep)) for sample, camera, image, sweep in pairs
        ]

    def _annotations(
        self, categories: list[Row], samples: list[str]
    ) -> dict[str, Annotations] | None:
        """Return the annotations by sample token; None where nothing is annotated."""
        names = {row["token"]: row["name"] for row in categories}
        instances = {row["token"]: names[row["category_token"]] for row in self._load("instance")}
        rows = self._load("sample_annotation")
        if not rows:
            return None
        found: dict[str, list[Row]] = {token: [] for token in samples}
        for row in rows:
            if row["sample_token"] in found:
                found[row["sample_token"]].append(row)
        seen = self._visibility()
        return {token: _boxes(rows, instances, seen) for token, rows in found.items()}

    def _visibility(self) -> dict[str, float]:
        """Return the shares of objects that are seen, by the tokens of ``visibility``."""
        return VISIBILITY

    def _point_labels(self, sweep: Shot, points: int) -> np.ndarray | None:
        if sweep.token not in self.lidarseg:
            return None
        file = existing(self.root / self.lidarseg[sweep.token], "lidarseg/v1.0-*/*_lidarseg.bin")
        ids = np.fromfile(file, np.uint8)
        ids[ids >= len(self.label_names)] = UNLABELLED
        if len(ids) != points:
            raise Fault(
                "bad_point_labels",
                f"{file} labels {len(ids)} points, {self.root / sweep.file} has {points}",
            )
        return ids


def _boxes(rows: list[Row], names: dict[str, str], visibility: dict[str, float]) -> Annotations:
    """Convert rows of ``sample_annotation``; ``names`` are the categories of instances."""
    poses = np.array([(*row["translation"], *row["rotation"]) for row in rows], np.float64)
    sizes = np.array([row["size"] for row in rows], np.float64).reshape(-1, 3)
    seen = [visibility.get(row.get("visibility_token", ""), np.nan) for row in rows]
    return Annotations(
        poses=poses.reshape(-1, 7),
        sizes=sizes[:, [1, 0, 2]],  # theirs: width, length, height
        names=tuple(names[row["instance_token"]] for row in rows),
        num_points=np.array([row["num_lidar_pts"] for row in rows], np.int32),
        visibility=np.array(seen, np.float32),
        track_ids=tuple(row["instance_token"] for row in rows),
    )
