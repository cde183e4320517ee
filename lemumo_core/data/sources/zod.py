"""Zenseact Open Dataset as Frames: its Frames, Sequences and Drives, of a fisheye and a LiDAR.

The calibration has the poses of camera and LiDAR on the vehicle, and ``ego_motion.json`` those of
the vehicle. Each return has a time of its own, and is brought to where the LiDAR would have had it
at the time of the image, of which the annotated boxes are, too.

Format: Alibeigi et al., ICCV 2023, and the development kit, github.com/zenseact/zod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.data.sources.files import (
    existing,
    read_calibrated_image,
    warn_of_unpaired,
)
from lemumo_core.data.sources.zod_files import EgoMotion, read_json, read_objects
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import count_points
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import check_rigid, inverse, transform
from lemumo_core.messages.motion import to_one_moment

LAYOUT = (
    "{trainval-{frames,sequences,drives}-{full,mini}.json, "
    "{single_frames,sequences,drives}/ID/{calibration.json, ego_motion.json, "
    "camera_front_blur/*.jpg, lidar_velodyne/*.npy[, annotations/object_detection.json]}}"
)
TOLERANCE_NS = 60_000_000
"""A sweep is this far from its image at most; the LiDAR turns ten times a second."""
POINT = ("x", "y", "z", "intensity", "diode_index")
EGO_LOW, EGO_HIGH = (-1.5, -3.0, -1.5), (1.5, 3.0, 0.5)
"""Corners of the box in the LiDAR's frame, metres, whose returns are of the vehicle (the kit's)."""
CAMERA_NAME = "front"


class _Shot(NamedTuple):
    """An image and the sweep nearest to it; paths are below the root."""

    image: str
    image_ns: int
    sweep: str
    sweep_ns: int
    is_compensated: bool
    calibration: str
    motion: str
    objects: str


class Zod:
    """Images of the front camera with the sweep nearest in time, in order of folder and time.

    Args:
        root: folder that holds ``trainval-*.json``.
        subset: ``frames``, of which the keyframe is taken, ``sequences`` or ``drives``.
        version: ``full`` or ``mini``, where both are there.
        split: ``train`` or ``val``; None for both.
        anonymization: whose images are taken: ``blur``, ``dnat`` or ``original``.

    Each Frame has a LidarScan (x, y, z, intensity 0 to 255, number of the beam) without the
    returns of the vehicle itself and, where its folder has ``ego_motion.json``, its pose. Keyframes
    that are annotated have Labels with boxes, those that are unclear as regions to ignore; objects
    without a box in space leave a region, too. Names are the kit's subclasses, Vehicle_Car and so
    on; ``--classes zod`` are all of them.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``ambiguous_version``, ``bad_split``, ``bad_table``, ``bad_labels``, ``bad_points``,
            ``bad_camera`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        subset: Literal["frames", "sequences", "drives"] = "frames",
        version: Literal["full", "mini"] | None = None,
        split: Literal["train", "val"] | None = None,
        anonymization: Literal["blur", "dnat", "original"] = "blur",
    ):
        self.root, self.subset, self.split = Path(root), subset, split
        self.anonymization = anonymization
        self.file = self._file(version)
        table = read_json(self.file)
        self._unpaired: list[str] = []
        with contents_of(self.file):
            names = ("train", "val") if split is None else (split,)
            infos = [info for name in names for info in table[name]]
            infos.sort(key=lambda info: str(info["id"]))
            self.shots = [shot for info in infos for shot in self._shots(info)]
        if not self.shots:
            raise Fault(
                "bad_split", f"{self.file} names no image of {anonymization} beside a sweep"
            )
        warn_of_unpaired(self.root, self._unpaired, len(self.shots) + len(self._unpaired))

    def __len__(self) -> int:
        return len(self.shots)

    def __getitem__(self, index: int) -> Frame:
        shot = self.shots[index]
        camera, T_ego_camera, T_ego_lidar = self._calibration(shot)
        path = existing(self.root / shot.image, LAYOUT)
        image = read_calibrated_image(path, camera.width, camera.height)
        motion_file = self.root / shot.motion
        motion = EgoMotion(motion_file) if shot.motion and motion_file.exists() else None
        points = self._points(shot, motion, T_ego_lidar)
        T_camera_lidar = inverse(T_ego_camera) @ T_ego_lidar
        return Frame(
            stamp_ns=shot.image_ns,
            camera_name=CAMERA_NAME,
            camera=camera,
            image=image,
            companion=LidarScan(points, T_camera_lidar, shot.sweep_ns),
            labels=self._labels(shot, camera, T_camera_lidar, points),
            T_fixed_camera=None if motion is None else motion.pose(shot.image_ns) @ T_ego_camera,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "zod",
            "root": str(self.root),
            "file": self.file.name,
            "split": self.split,
            "anonymization": self.anonymization,
            "frames": len(self),
        }

    def _file(self, version: str | None) -> Path:
        if version is not None:
            return existing(self.root / f"trainval-{self.subset}-{version}.json", LAYOUT)
        found = sorted(self.root.glob(f"trainval-{self.subset}-*.json"))
        if not found:
            raise FileNotFoundError(
                f"{self.root} holds no trainval-{self.subset}-*.json; expected {LAYOUT}"
            )
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise Fault("ambiguous_version", f"{self.root} holds {names}: choose one by version")
        return found[0]

    def _shots(self, info: Mapping[str, Any]) -> list[_Shot]:
        """Return the images of a folder that have a sweep: of ``frames`` the keyframe."""
        images = info["camera_frames"].get(f"{CAMERA_NAME}_{self.anonymization}", [])
        stamps_ns = np.array([_stamp_ns(one["time"]) for one in images], np.int64)
        sweeps = info["lidar_frames"]["velodyne"]
        sweeps_ns = np.array([_stamp_ns(one["time"]) for one in sweeps], np.int64)
        if not len(images) or not len(sweeps):
            self._unpaired.append(f"those of {info['id']}")
            return []
        keyframe = int(np.abs(stamps_ns - _stamp_ns(info["keyframe_time"])).argmin())
        objects = info["annotations"].get("object_detection", {}).get("filepath", "")
        shots = []
        for number in [keyframe] if self.subset == "frames" else range(len(images)):
            nearest = int(np.abs(sweeps_ns - stamps_ns[number]).argmin())
            if abs(int(sweeps_ns[nearest] - stamps_ns[number])) > TOLERANCE_NS:
                self._unpaired.append(str(images[number]["filepath"]))
                continue
            shots.append(
                _Shot(
                    *(images[number]["filepath"], int(stamps_ns[number])),
                    *(sweeps[nearest]["filepath"], int(sweeps_ns[nearest])),
                    bool(sweeps[nearest].get("is_compensated")),
                    *(info["calibration_path"], info.get("ego_motion_path") or ""),
                    objects if number == keyframe else "",
                )
            )
        return shots

    def _calibration(self, shot: _Shot) -> tuple[Camera, np.ndarray, np.ndarray]:
        """Return the camera of an image, and the poses of camera and LiDAR on the vehicle."""
        file = self.root / shot.calibration
        with contents_of(file):
            found = read_json(existing(file, LAYOUT))["FC"]
            K = np.array(found["intrinsics"], np.float64)[:3, :3]
            D = np.array(found["distortion"], np.float64)
            width, height = (int(value) for value in found["image_dimensions"])
            poses = [
                np.array(found[name], np.float64).reshape(4, 4)
                for name in ("extrinsics", "lidar_extrinsics")
            ]
            camera = Camera.from_calibration(
                width, height, K.ravel().tolist(), "equidistant", D.tolist()
            )
        T_ego_camera, T_ego_lidar = (check_rigid(pose, str(file)) for pose in poses)
        return camera, T_ego_camera, T_ego_lidar

    def _points(self, shot: _Shot, motion: EgoMotion | None, T_ego_lidar: np.ndarray) -> np.ndarray:
        """Return the returns of a sweep but those of the vehicle, float32 (N, 5).

        Where the motion is known, they are where the LiDAR would have had them at the image.
        """
        path = self.root / shot.sweep
        try:
            rows = np.load(existing(path, LAYOUT), allow_pickle=False)
            points = np.stack([rows[name].astype(np.float32) for name in POINT], axis=1)
            offsets_ns = rows["timestamp"].astype(np.int64) * 1000
        except (ValueError, IndexError, EOFError) as error:
            raise Fault("bad_points", f"{path} is no sweep of ZOD: {error}") from None
        xyz = points[:, :3]
        kept = ~((xyz > EGO_LOW) & (xyz < EGO_HIGH)).all(axis=1)
        points, offsets_ns = points[kept], offsets_ns[kept] * (not shot.is_compensated)
        if motion is None:
            return points

        def pose_at(stamp_ns: int) -> np.ndarray:
            return motion.pose(stamp_ns) @ T_ego_lidar

        return to_one_moment(points, offsets_ns, shot.sweep_ns, pose_at, shot.image_ns)

    def _labels(
        self, shot: _Shot, camera: Camera, T_camera_lidar: np.ndarray, points: np.ndarray
    ) -> Labels | None:
        """Return the labels of a keyframe, whose boxes are of the time of its image."""
        path = self.root / shot.objects
        if not shot.objects or not path.exists():
            return None
        objects = read_objects(path)
        boxes = [one for one in objects if one.name and one.pose is not None]
        ignored = [one.region for one in objects if not one.name or one.pose is None]
        annotations = Annotations(
            poses=np.array([one.pose for one in boxes], np.float64).reshape(-1, 7),
            sizes=np.array([one.size for one in boxes], np.float64).reshape(-1, 3),
            names=tuple(one.name for one in boxes),
            num_points=np.zeros(len(boxes), np.int32),
            visibility=np.array([one.visibility for one in boxes], np.float32),
        )
        with contents_of(path):
            labels = visible_labels(annotations, T_camera_lidar, camera)
        in_camera = transform(T_camera_lidar, points[:, :3].astype(np.float64))
        counts = count_points(in_camera, np.asarray(labels.boxes_3d, np.float64))
        regions = np.array(ignored, np.float32).reshape(-1, 4)
        return replace(labels, num_points=counts, ignore=regions)


def _stamp_ns(time: str) -> int:
    """Return a time of the tables, which is ISO 8601 and UTC where it names no zone, in ns."""
    found = datetime.fromisoformat(time.replace("Z", "+00:00"))
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    since = found - datetime.fromtimestamp(0, timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
