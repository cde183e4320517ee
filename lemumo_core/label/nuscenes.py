"""nuScenes' tables (v1.0) of keyframes with boxes, as its devkit and our source read them.

The ego frame has the camera's place and REP-103 axes, and does not move: sources know no vehicle.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.nuscenes import LIDAR, POINT_COLUMNS, VISIBILITY, NuScenes
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import box_rotation, image_bounds
from lemumo_core.geometry.se3 import T_BODY_OPTICAL, make_T, quaternion_from_rotation
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

log = logging.getLogger(__name__)

VERSION = "v1.0-lemumo"
T_EGO_CAMERA = T_BODY_OPTICAL
TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map"),
    *("sample", "sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)
Row = dict[str, Any]


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write samples and tables, one scene, every frame a keyframe of one camera and its LiDAR.

    Raises:
        Fault: ``no_points`` for a frame without a sweep.
    """
    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    named: dict[str, dict[str, Row]] = {"category": {}, "instance": {}}
    tables["visibility"] = [{"token": level, "level": level} for level in VISIBILITY]
    tables["log"] = [{"token": "log", "logfile": "", "vehicle": "", "location": ""}]
    channels = {LIDAR: "lidar"}
    distorted = False
    for name, frame in frames:
        if not isinstance(frame.companion, LidarScan):
            raise Fault("no_points", f"{name} has no LiDAR sweep, which nuScenes' keyframes need")
        channel = f"CAM_{frame.camera_name.upper().removeprefix('CAM_')}"
        channels[channel] = "camera"
        distorted |= frame.camera.model != "pinhole"
        _add_keyframe(tables, name, channel, frame, frame.companion, out)
        _add_boxes(tables["sample_annotation"], named, name, frame.labels or Labels())
    if distorted:
        log.warning("%s: images are not rectified, and nuScenes knows no distortion", out)
    tables["sensor"] = [
        {"token": c, "channel": c, "modality": kind} for c, kind in channels.items()
    ]
    tables |= {table: list(rows.values()) for table, rows in named.items()}
    samples = tables["sample"]
    for before, after in itertools.pairwise(samples):
        before["next"], after["prev"] = after["token"], before["token"]
    if samples:
        ends = {
            "first_sample_token": samples[0]["token"],
            "last_sample_token": samples[-1]["token"],
        }
        scene = {"token": "scene", "name": "scene", "description": "", "log_token": "log"}
        tables["scene"] = [{**scene, "nbr_samples": len(samples), **ends}]
    (out / VERSION).mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        write_whole(out / VERSION / f"{table}.json", json.dumps(rows, indent=1).encode())


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read the boxes of the keyframes of a data set, by the names of their images.

    Raises:
        Fault, FileNotFoundError: as ``NuScenes``.
    """
    channels = sorted(one.name for one in (path / "samples").glob("CAM_*") if one.is_dir())
    source = NuScenes(path, channels or ("CAM_FRONT",))
    names = [Path(image.file).stem for _, _, image, _ in source.keyframes]
    return {stem: partial(_labels, source, index) for index, stem in enumerate(names)}


def _labels(source: NuScenes, index: int, frame: Frame) -> dict[str, Any]:
    found = source[index].labels or Labels()
    if found.boxes_3d is None:
        return {}
    return {
        "boxes_3d": found.boxes_3d,
        "boxes_2d": image_bounds(found.boxes_3d, frame.camera),
        "class_names": found.class_names,
        "visibility": found.visibility,
        "num_points": found.num_points,
        "track_ids": found.track_ids,
    }


def _add_keyframe(
    tables: dict[str, list[Row]], name: str, channel: str, frame: Frame, scan: LidarScan, out: Path
) -> None:
    image = f"samples/{channel}/{name}.png"
    sweep = f"samples/{LIDAR}/{name}.pcd.bin"
    write_image(frame, out / image)
    (out / sweep).parent.mkdir(parents=True, exist_ok=True)
    scan.columns(POINT_COLUMNS).tofile(out / sweep)
    time = {"timestamp": frame.stamp_ns // 1000}
    tables["sample"].append({"token": name, **time, "prev": "", "next": "", "scene_token": "scene"})
    camera = frame.camera
    sensors: tuple[tuple[str, str, int, np.ndarray, list[Any]], ...] = (
        (channel, image, frame.stamp_ns, T_EGO_CAMERA, camera.K.tolist()),
        (LIDAR, sweep, scan.stamp_ns, T_EGO_CAMERA @ scan.T_camera_lidar, []),
    )
    for sensor, file, stamp_ns, T_ego_sensor, K in sensors:
        token = f"{name}-{sensor}"
        time = {"timestamp": stamp_ns // 1000}
        tables["ego_pose"].append({"token": token, **time, **_pose(np.eye(4))})
        mount = {"token": token, "sensor_token": sensor, **_pose(T_ego_sensor)}
        tables["calibrated_sensor"].append({**mount, "camera_intrinsic": K})
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": name,
                "ego_pose_token": token,
                "calibrated_sensor_token": token,
                **time,
                "fileformat": "pcd" if sensor == LIDAR else "png",
                "is_key_frame": True,
                "height": 0 if sensor == LIDAR else camera.height,
                "width": 0 if sensor == LIDAR else camera.width,
                "filename": file,
                "prev": "",
                "next": "",
            }
        )


def _add_boxes(
    annotations: list[Row], named: dict[str, dict[str, Row]], name: str, labels: Labels
) -> None:
    boxes = np.zeros((0, 7)) if labels.boxes_3d is None else labels.boxes_3d.astype(float)
    for i, box in enumerate(boxes):
        category = labels.class_names[i]
        row = {"token": category, "name": category, "description": ""}
        named["category"].setdefault(category, row)
        track = labels.track_ids[i] if labels.track_ids else ""
        instance = track or f"{name}-{i}"
        row = {"token": instance, "category_token": category}
        named["instance"].setdefault(instance, row)
        R = T_EGO_CAMERA[:3, :3] @ box_rotation(box[6:])[0]
        pose = _pose(make_T(R, T_EGO_CAMERA[:3, :3] @ box[:3]))
        length, width, height = box[3:6].tolist()
        count = -1 if labels.num_points is None else int(labels.num_points[i])
        annotations.append(
            {
                "token": f"{name}-{i}",
                "sample_token": name,
                "instance_token": instance,
                "visibility_token": _level(labels, i),
                "attribute_tokens": [],
                **pose,
                "size": [width, length, height],
                "prev": "",
                "next": "",
                "num_lidar_pts": count,
                "num_radar_pts": 0,
            }
        )


def _pose(T: np.ndarray) -> Row:
    rotation = quaternion_from_rotation(T[:3, :3])
    return {"translation": T[:3, 3].tolist(), "rotation": rotation.tolist()}


def _level(labels: Labels, i: int) -> str:
    """Return nuScenes' level of visibility nearest to that of a box; '' where it is not known."""
    if labels.visibility is None or np.isnan(labels.visibility[i]):
        return ""
    seen = float(labels.visibility[i])
    return min(VISIBILITY, key=lambda level: abs(VISIBILITY[level] - seen))
