"""nuScenes v1.0 as Frames, read from its JSON tables without the devkit.

One Frame is a keyframe of one camera and LIDAR_TOP. Sensors fire at different times while the car
moves, so points travel LiDAR -> ego(t_lidar) -> world -> ego(t_camera) -> camera; that chain is
the Frame's ``T_camera_lidar`` and differs from frame to frame.

Format: https://www.nuscenes.org/nuscenes#data-format (Caesar et al., CVPR 2020).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import existing, read_image, read_points
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import box_corners, image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, rotation_from_quaternion

LAYOUT = "{v1.0-*/*.json, samples/{LIDAR_TOP,CAM_*}/*}"
LIDAR = "LIDAR_TOP"
POINT_COLUMNS = 5
"""x, y, z, intensity, ring."""

Row = dict[str, Any]


class NuScenes:
    """Keyframes of one camera with LIDAR_TOP, ordered by the camera's time.

    Args:
        root: folder that holds ``v1.0-*`` and ``samples``.
        camera: channel, e.g. ``CAM_FRONT``.
        version: folder of the tables; may be left out where there is only one.

    Each Frame has a LidarScan (x, y, z, intensity 0..255) and Labels. A box is kept when its
    centre lies in front of the camera (z > 0) and at least one of its corners projects into the
    image; occlusion is not considered. The true box may pitch and roll with the road; the label's
    yaw is that of its length axis as seen by the camera. Class names are nuScenes categories.

    Raises:
        FileNotFoundError: a missing folder, table or sensor file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_table``, ``bad_points`` or ``bad_image``.
    """

    def __init__(self, root: str | Path, camera: str = "CAM_FRONT", version: str | None = None):
        self.root = Path(root)
        self.camera_name = camera
        tables = self._tables_folder(version)

        def load(name: str) -> list[Row]:
            file = existing(tables / f"{name}.json", LAYOUT)
            try:
                rows: list[Row] = json.loads(file.read_bytes())
            except ValueError as error:
                raise Fault("bad_table", f"{file} is not JSON: {error}") from None
            return rows

        try:
            channels = {row["token"]: row["channel"] for row in load("sensor")}
            self.mounts = {row["token"]: row for row in load("calibrated_sensor")}
            shots: dict[str, dict[str, Row]] = defaultdict(dict)
            for row in load("sample_data"):
                if row["is_key_frame"]:
                    mount = self.mounts[row["calibrated_sensor_token"]]
                    shots[row["sample_token"]][channels[mount["sensor_token"]]] = row
            pairs = [
                (shot[camera], shot[LIDAR]) for shot in shots.values() if {camera, LIDAR} <= {*shot}
            ]
            self.keyframes = sorted(pairs, key=lambda pair: pair[0]["timestamp"])
            if not self.keyframes:
                known = sorted({channel for shot in shots.values() for channel in shot})
                raise Fault(
                    "unknown_camera",
                    f"{tables} has no keyframe with both {camera} and {LIDAR}; it has "
                    f"{', '.join(known) or 'none'}",
                )
            used = {row["ego_pose_token"] for pair in self.keyframes for row in pair}
            self.poses = {row["token"]: row for row in load("ego_pose") if row["token"] in used}
            categories = {row["token"]: row["name"] for row in load("category")}
            instances = {
                row["token"]: categories[row["category_token"]] for row in load("instance")
            }
            self.annotations: dict[str, list[Row]] = {token: [] for token in shots}
            for row in load("sample_annotation"):
                category = instances[row["instance_token"]]
                self.annotations[row["sample_token"]].append({**row, "category": category})
        except KeyError as error:
            raise Fault(
                "bad_table", f"{tables}: missing field or token {error}; is the download complete?"
            ) from None

    def _tables_folder(self, version: str | None) -> Path:
        if version is not None:
            return existing(self.root / version, LAYOUT)
        found = sorted(path for path in self.root.glob("v1.0-*") if path.is_dir())
        if not found:
            raise FileNotFoundError(f"{self.root} holds no v1.0-* folder; expected {LAYOUT}")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise Fault("ambiguous_version", f"{self.root} holds {names}; say which version")
        return found[0]

    def __len__(self) -> int:
        return len(self.keyframes)

    def __getitem__(self, index: int) -> Frame:
        camera_row, lidar_row = self.keyframes[index]
        T_camera_world = inverse(self._T_world_sensor(camera_row))
        image = read_image(existing(self.root / camera_row["filename"], LAYOUT))
        K = self.mounts[camera_row["calibrated_sensor_token"]]["camera_intrinsic"]
        height, width = image.shape[:2]
        camera = Camera.from_calibration(width, height, K, "pinhole", [])
        points = read_points(existing(self.root / lidar_row["filename"], LAYOUT), POINT_COLUMNS)
        return Frame(
            stamp_ns=camera_row["timestamp"] * 1000,
            camera_name=self.camera_name,
            camera=camera,
            image=image,
            companion=LidarScan(
                points=np.ascontiguousarray(points[:, :4]),
                T_camera_lidar=T_camera_world @ self._T_world_sensor(lidar_row),
                stamp_ns=lidar_row["timestamp"] * 1000,
            ),
            labels=visible_labels(
                self.annotations[camera_row["sample_token"]], T_camera_world, camera
            ),
        )

    def _T_world_sensor(self, row: Row) -> np.ndarray:
        """Pose of a sensor in the world at the moment of one of its recordings."""
        pose = self.poses[row["ego_pose_token"]]
        return _T(pose) @ _T(self.mounts[row["calibrated_sensor_token"]])


def visible_labels(annotations: list[Row], T_camera_world: np.ndarray, camera: Camera) -> Labels:
    """Annotations (world frame) as Labels of one camera image; which are kept: see ``NuScenes``."""
    boxes, names = [], []
    for row in annotations:
        T_camera_box = T_camera_world @ _T(row)
        width, length, height = row["size"]
        yaw = np.arctan2(-T_camera_box[2, 0], T_camera_box[0, 0])
        boxes.append([*T_camera_box[:3, 3], length, width, height, yaw])
        names.append(row["category"])
    boxes_3d = np.array(boxes, np.float64).reshape(-1, 7)
    kept = boxes_3d[:, 2] > 0
    for i in np.flatnonzero(kept):
        uv, valid = camera.project(box_corners(boxes_3d[i : i + 1])[0])
        inside = (uv > -0.5) & (uv < [camera.width - 0.5, camera.height - 0.5])
        kept[i] = (inside.all(axis=1) & valid).any()
    boxes_3d = boxes_3d[kept].astype(np.float32)
    return Labels(
        boxes_3d=boxes_3d,
        boxes_2d=image_bounds(boxes_3d, camera),
        class_names=tuple(name for name, keep in zip(names, kept, strict=True) if keep),
    )


def _T(row: Row) -> np.ndarray:
    """Pose of a table row with ``rotation`` (w, x, y, z) and ``translation``."""
    return make_T(rotation_from_quaternion(*row["rotation"]), row["translation"])
