"""T4 datasets on files that the test writes to the documented format."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.taxonomy import Taxonomy, read_classes

K = [[70.0, 0, 47.0], [0, 71.0, 30.5], [0, 0, 1]]
DISTORTION = [-0.2, 0.05, 0.001, -0.002, 0.01]
FRONT = (0.5, -0.5, 0.5, -0.5), (1.8, 0.1, 1.6)
BACK = (0.5, -0.5, -0.5, 0.5), (-1.0, 0.0, 1.5)
"""Poses of cameras on the vehicle: rotation w, x, y, z and translation."""
SECOND_US = 1_000_000
START_US = 1_650_000_000 * SECOND_US
IMAGE_LATE_US = 40_000
LEVELS = {"aa": "full", "bb": "partial", "cc": "unavailable"}


def pose_of(stamp_us: int) -> tuple[list[float], list[float]]:
    """Return where the vehicle is: it drives and turns."""
    seconds = (stamp_us - START_US) / SECOND_US
    x, y, z, w = Rotation.from_euler("z", 0.4 + 0.3 * seconds).as_quat()
    return [w, x, y, z], [100 + 8 * seconds, -50.0, 2.0]


def matrix(rotation, translation) -> np.ndarray:
    w, x, y, z = rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    T[:3, 3] = translation
    return T


def points_of(frame: int) -> np.ndarray:
    rng = np.random.default_rng(frame)
    points = rng.uniform((-30, -30, -1, 0, 0), (30, 30, 3, 255, 0), (150, 5)).astype(np.float32)
    points[:, 4] = -1
    return points


def write_recording(root: Path, cameras: dict, is_annotated: bool, lidar: str) -> None:
    """Write a recording of two keyframes, half a second apart."""
    mounts = {lidar: ((1.0, 0, 0, 0), (0.0, 0, 0)), **cameras}
    sample_data, poses = [], []
    for number in range(2):
        stamp = START_US + number * SECOND_US // 2
        for channel in mounts:
            is_camera = channel in cameras
            at = stamp + IMAGE_LATE_US * is_camera
            suffix = "jpg" if is_camera else "pcd.bin"
            file = root / "data" / channel / f"{number}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if is_camera:
                assert cv2.imwrite(str(file), np.full((64, 96, 3), 60, np.uint8))
            else:
                points_of(number).tofile(file)
            token = f"{channel}-{number}"
            rotation, translation = pose_of(at)
            poses.append({"token": token, "rotation": rotation, "translation": translation})
            sample_data.append(
                {
                    "token": token,
                    "sample_token": f"sample-{number}",
                    "ego_pose_token": token,
                    "calibrated_sensor_token": channel,
                    "filename": file.relative_to(root).as_posix(),
                    "width": 96 * is_camera,
                    "height": 64 * is_camera,
                    "timestamp": at,
                    "is_key_frame": True,
                    "is_valid": number == 0 or channel != "CAM_BACK",
                }
            )
    tables = {
        "sample_data": sample_data,
        "ego_pose": poses,
        "sensor": [
            {"token": name, "channel": name, "modality": "camera" if name in cameras else "lidar"}
            for name in mounts
        ],
        "calibrated_sensor": [
            {
                "token": name,
                "sensor_token": name,
                "rotation": list(rotation),
                "translation": list(translation),
                "camera_intrinsic": K if name in cameras else [],
                "camera_distortion": DISTORTION if name == "CAM_FRONT" else [],
            }
            for name, (rotation, translation) in mounts.items()
        ],
        "sample": [
            {
                "token": f"sample-{number}",
                "timestamp": START_US + number * SECOND_US // 2,
                "scene_token": "scene",
            }
            for number in range(2)
        ],
        "scene": [{"token": "scene", "name": "drive_scene"}],
        **{key: [] for key in ("category", "instance", "sample_annotation", "visibility")},
    }
    if is_annotated:
        names = ("car", "construction_worker", "forklift")
        tables["category"] = [{"token": f"of-{n}", "name": n, "index": None} for n in names]
        tables["instance"] = [{"token": f"id-{n}", "category_token": f"of-{n}"} for n in names]
        tables["visibility"] = [{"token": t, "level": level} for t, level in LEVELS.items()]
        rotation, translation = pose_of(START_US)
        centers = ((12.0, 1, 0.5), (9.0, -2, 0.0), (15.0, 3, 1.0))
        sizes = ((1.9, 4.5, 1.6), (0.6, 0.7, 1.8), (1.2, 2.5, 2.2))
        tables["sample_annotation"] = [
            {
                "token": f"box-{name}",
                "sample_token": "sample-0",
                "instance_token": f"id-{name}",
                "visibility_token": token,
                "translation": (matrix(rotation, translation) @ [*center, 1])[:3].tolist(),
                "rotation": rotation,
                "size": list(size),
                "num_lidar_pts": 20,
            }
            for name, token, center, size in zip(names, LEVELS, centers, sizes, strict=True)
        ]
    (root / "annotation").mkdir()
    for name, rows in tables.items():
        (root / "annotation" / f"{name}.json").write_text(json.dumps(rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of an annotated recording and, below its version, one that is not."""
    both = {"CAM_FRONT": FRONT, "CAM_BACK": BACK}
    write_recording(tmp_path / "0a1b", both, True, "LIDAR_CONCAT")
    write_recording(tmp_path / "7c2d" / "0", {"CAM_FRONT": FRONT}, False, "LIDAR_TOP")
    return tmp_path


def test_points_are_where_calibration_and_motion_put_them(root: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source("t4", root=root)))
    frames = [source[i] for i in range(len(source))]
    names = ["CAM_BACK", "CAM_FRONT", "CAM_FRONT", "CAM_FRONT", "CAM_FRONT"]
    assert [frame.camera_name for frame in frames] == names, "an invalid image is left out"
    for frame, number in zip(frames, (0, 0, 1, 0, 1), strict=True):
        sweep_us = START_US + number * SECOND_US // 2
        assert frame.companion.stamp_ns == sweep_us * 1000
        assert frame.stamp_ns == (sweep_us + IMAGE_LATE_US) * 1000
        np.testing.assert_array_equal(frame.companion.points, points_of(number)[:, :4])
        mount = FRONT if frame.camera_name == "CAM_FRONT" else BACK
        T_world_camera = matrix(*pose_of(sweep_us + IMAGE_LATE_US)) @ matrix(*mount)
        expected = np.linalg.inv(T_world_camera) @ matrix(*pose_of(sweep_us))
        np.testing.assert_allclose(frame.companion.T_camera_lidar, expected, atol=1e-9)
        np.testing.assert_allclose(frame.T_fixed_camera, T_world_camera, atol=1e-9)
    front = frames[1]
    seen = np.c_[points_of(0)[:, :3], np.ones(150)] @ front.companion.T_camera_lidar.T
    seen = seen[(seen[:, 2] > 2) & (np.abs(seen[:, 0]) < 0.8 * seen[:, 2]), :3]
    of_lens = np.array(DISTORTION)
    expected, _ = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), np.array(K), of_lens)
    np.testing.assert_allclose(front.camera.project(seen)[0], expected[:, 0], atol=1e-6)
    assert len(seen) > 10
    assert open_source("t4", root=root, rectified=True)[1].camera.model == "pinhole"


def test_boxes_are_those_of_their_sweep(root: Path) -> None:
    source = open_source("t4", root=root / "0a1b", cameras="CAM_FRONT")
    labels = source[0].labels
    assert labels.class_names == ("car", "construction_worker", "forklift")
    np.testing.assert_allclose(labels.visibility, [1.0, 0.3, np.nan])
    np.testing.assert_allclose(labels.boxes_3d[0, 3:6], [4.5, 1.9, 1.6])
    in_camera = source[0].companion.T_camera_lidar @ [12, 1, 0.5, 1]
    np.testing.assert_allclose(labels.boxes_3d[0, :3], in_camera[:3], atol=1e-4)
    assert labels.track_ids[0] == "id-car" and len(source[1].labels.class_names) == 0
    assert open_source("t4", root=root / "7c2d")[0].labels is None
    classes = read_classes("t4")
    assert classes.detection_ids(labels.class_names).min() >= 0
    assert [Taxonomy().detection_classes[i] for i in Taxonomy().detection_ids(("police_car",))] == [
        "car"
    ]


def test_what_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(Fault, match="no keyframe with both CAM_LEFT and LIDAR_CONCAT; it has CAM_"):
        open_source("t4", root=root, cameras="CAM_LEFT")
    (root / "0a1b" / "data" / "LIDAR_CONCAT" / "0.pcd.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.pcd\.bin does not exist; expected \[DATASET/"):
        open_source("t4", root=root)[0]
    with pytest.raises(FileNotFoundError, match="holds no T4 dataset; expected"):
        open_source("t4", root=root / "0a1b" / "data")
    (root / "0a1b" / "annotation" / "ego_pose.json").write_text("[]")
    with pytest.raises(Fault, match="annotation is not as documented: KeyError"):
        open_source("t4", root=root)
    (root / "0a1b" / "annotation" / "sample_data.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sample_data\.json does not exist"):
        open_source("t4", root=root)
    (root / "0a1b" / "annotation" / "sensor.json").write_text("null")
    with pytest.raises(Fault, match=r"sensor\.json is no list of rows"):
        open_source("t4", root=root)


def test_keyframes_that_lack_a_sensor_are_counted(root: Path, caplog) -> None:
    whole = len(open_source("t4", root=root))
    assert "1 of 4 pairs of image and sweep are left out" in caplog.text
    table = root / "0a1b" / "annotation" / "sample_data.json"
    rows = json.loads(table.read_text())
    camera = next(row for row in rows if "CAM_" in row["filename"] and row["is_key_frame"])
    table.write_text(json.dumps([row for row in rows if row is not camera]))
    assert len(open_source("t4", root=root)) == whole - 1
    assert "2 of 4 pairs of image and sweep are left out" in caplog.text
