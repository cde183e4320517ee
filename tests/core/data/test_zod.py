"""The Zenseact Open Dataset on files that the test writes to the documented format."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.taxonomy import Taxonomy, read_classes

START_S = 1_650_000_000
"""2022-04-15, 05:20:00 UTC."""
IMAGE_US, SWEEP_US, LATER_US = 120_000, 150_000, 250_000
K, D = [[55.0, 0, 47.0, 0], [0, 56.0, 31.0, 0], [0, 0, 1, 0]], [0.04, -0.01, 0.002, -0.0005]
SIZE = (96, 64)
SWEEP = [
    *(("timestamp", np.int64), ("x", np.float32), ("y", np.float32), ("z", np.float32)),
    *(("intensity", np.uint8), ("diode_index", np.uint8)),
]
OBJECTS = {
    # class, properties; centre, size and turn about z in the LiDAR's frame, whose y is ahead
    "car": ("Vehicle", {"type": "Car"}, ((1.0, 12.0, -1.0), (4.4, 1.9, 1.6), 1.4)),
    "ride": ("VulnerableVehicle", {"type": "Bicycle", "with_rider": "True"}, None),
    "empty": (
        "VulnerableVehicle",
        {"type": "Bicycle", "with_rider": "False"},
        ((-2.0, 9.0, -1.0), (1.8, 0.6, 1.2), 0.2),
    ),
    "blur": ("Vehicle", {"type": "Inconclusive"}, None),
    "sign": ("TrafficSign", {"traffic_content_visible": "False"}, ((3.0, 15.0, 1), (0.1, 1, 1), 0)),
    "behind": ("Pedestrian", {}, ((0.0, -9.0, -1.0), (0.6, 0.6, 1.8), 0.0)),
}
KNOTS = np.arange(0, 0.5001, 0.01)


def matrix(rotation: Rotation, translation) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation.as_matrix(), translation
    return T


T_EGO_CAMERA = matrix(
    Rotation.from_matrix([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    * Rotation.from_euler("x", -3, degrees=True),
    [1.9, 0.05, 1.3],
)
T_EGO_LIDAR = matrix(Rotation.from_euler("z", -90, degrees=True), [1.0, -0.02, 2.1])
TURNS = Rotation.from_euler("z", 0.5 * KNOTS[:, None])
PLACES = np.stack([20 * KNOTS, 3 * KNOTS**2, 0 * KNOTS], axis=1)


def ego_pose(seconds: float) -> np.ndarray:
    """Return the vehicle's pose by SciPy's interpolation of the written ones."""
    place = [np.interp(seconds, KNOTS, column) for column in PLACES.T]
    return matrix(Slerp(KNOTS, TURNS)(seconds), place)


def returns() -> np.ndarray:
    """Return a sweep: points all around, some on the vehicle, in the order of their times."""
    rng = np.random.default_rng(3)
    rows = np.zeros(200, SWEEP)
    xyz = rng.uniform((-25, -25, -2), (25, 25, 4), (200, 3)).astype(np.float32)
    xyz[:10] = rng.uniform((-1, -2, -1), (1, 2, 0.4), (10, 3))
    for axis, column in zip("xyz", xyz.T, strict=True):
        rows[axis] = column
    rows["timestamp"] = np.linspace(-50_000, 49_000, 200)
    rows["intensity"], rows["diode_index"] = np.arange(200), np.arange(200) % 128
    return rows


def iso(us: int) -> str:
    return f"2022-04-15T05:20:00.{us:06d}Z"


def entry(folder: str, number: str, is_compensated: bool = False, has_motion: bool = True) -> dict:
    own = f"{folder}/{number}"
    images = [(us, f"{own}/camera_front_blur/{number}_{us}.jpg") for us in (IMAGE_US, LATER_US)]
    sweeps = [(us, f"{own}/lidar_velodyne/{number}_{us}.npy") for us in (SWEEP_US, 50_000)]
    objects = {
        "filepath": f"{own}/annotations/object_detection.json",
        "project": "object_detection",
    }
    return {
        "id": number,
        "keyframe_time": iso(IMAGE_US + 10),
        "calibration_path": f"{own}/calibration.json",
        "ego_motion_path": f"{own}/ego_motion.json" if has_motion else None,
        "annotations": {"object_detection": objects} if number == "000007" else {},
        "camera_frames": {
            "front_blur": [
                {"filepath": path, "time": iso(us), "height": SIZE[1], "width": SIZE[0]}
                for us, path in images
            ]
        },
        "lidar_frames": {
            "velodyne": [
                {"filepath": path, "time": iso(us), "is_compensated": is_compensated}
                for us, path in sweeps
            ]
        },
    }


def write(root: Path, info: dict) -> None:
    """Write the files that an entry names."""
    for image in info["camera_frames"]["front_blur"]:
        path = root / image["filepath"]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    for sweep in info["lidar_frames"]["velodyne"]:
        path = root / sweep["filepath"]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, returns())
    found = {
        "extrinsics": T_EGO_CAMERA.tolist(),
        "lidar_extrinsics": T_EGO_LIDAR.tolist(),
        "intrinsics": K,
        "distortion": D,
        "undistortion": [0, 0, 0, 0],
        "image_dimensions": [*SIZE],
        "field_of_view": [90, 60],
    }
    (root / info["calibration_path"]).write_text(json.dumps({"FC": found}))
    if info["ego_motion_path"]:
        poses = [matrix(turn, place).tolist() for turn, place in zip(TURNS, PLACES, strict=True)]
        motion = {"poses": poses, "timestamps": (START_S + KNOTS).tolist()}
        (root / info["ego_motion_path"]).write_text(json.dumps(motion))
    if not info["annotations"]:
        return
    rows = []
    for i, (name, (kind, more, box)) in enumerate(OBJECTS.items()):
        values = {"annotation_uuid": name, "class": kind, "unclear": False, **more}
        values["occlusion_ratio"] = "Medium"
        if box is not None:
            center, size, yaw = box
            x, y, z, w = Rotation.from_euler("z", yaw).as_quat()
            values |= {f"orientation_3d_q{k}": v for k, v in zip("xyzw", (x, y, z, w), strict=True)}
            values["location_3d"] = {"type": "Point", "coordinates": [*center]}
            names = ("size_3d_length", "size_3d_width", "size_3d_height")
            values |= dict(zip(names, size, strict=True))
        corners = [[10 + i, 20], [30 + i, 20], [30 + i, 44], [10 + i, 44]]
        rows.append(
            {"geometry": {"type": "MultiPoint", "coordinates": corners}, "properties": values}
        )
    path = root / info["annotations"]["object_detection"]["filepath"]
    path.parent.mkdir()
    path.write_text(json.dumps(rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Frames, two that are trained on and one that validates, and a sequence."""
    train = [
        entry("single_frames", "000031", is_compensated=True),
        entry("single_frames", "000007"),
    ]
    val = [entry("single_frames", "000044", has_motion=False)]
    sequence = entry("sequences", "000002")
    for info in (*train, *val, sequence):
        write(tmp_path, info)
    tables = {"frames": {"train": train, "val": val}, "sequences": {"train": [sequence], "val": []}}
    for name, table in tables.items():
        (tmp_path / f"trainval-{name}-mini.json").write_text(json.dumps(table))
    return tmp_path


def test_returns_are_where_they_were_measured(root: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source("zod", root=root)))
    raw, compensated, bare = source[0], source[1], source[2]
    kept = returns()[10:]
    xyz = np.stack([kept[axis] for axis in "xyz"], axis=1).astype(np.float64)
    T_world_camera = ego_pose(IMAGE_US / 1e6) @ T_EGO_CAMERA
    for frame, is_raw in ((raw, True), (compensated, False)):
        scan = frame.companion
        assert frame.stamp_ns == START_S * 10**9 + IMAGE_US * 1000
        assert scan.stamp_ns == START_S * 10**9 + SWEEP_US * 1000, "the sweep nearest to it"
        np.testing.assert_allclose(frame.T_fixed_camera, T_world_camera, atol=1e-6)
        times_s = (SWEEP_US + kept["timestamp"] * is_raw) / 1e6
        expected = [
            (ego_pose(t) @ T_EGO_LIDAR @ [*point, 1])[:3]
            for t, point in zip(times_s, xyz, strict=True)
        ]
        in_camera = np.c_[scan.points[:, :3], np.ones(190)] @ scan.T_camera_lidar.T
        found = (in_camera @ T_world_camera.T)[:, :3]
        np.testing.assert_allclose(found, expected, atol=2e-3)
        np.testing.assert_array_equal(scan.points[:, 3], kept["intensity"])
        np.testing.assert_array_equal(scan.points[:, 4], kept["diode_index"])
    assert np.linalg.norm(raw.companion.points - compensated.companion.points, axis=1).max() > 0.3
    assert bare.T_fixed_camera is None
    np.testing.assert_array_equal(bare.companion.points[:, :3], xyz.astype(np.float32))


def test_the_lens_is_that_of_the_kit(root: Path) -> None:
    camera = open_source("zod", root=root)[0].camera
    points = np.random.default_rng(0).uniform((-6, -4, 2), (6, 4, 12), (50, 3))
    radial = np.hypot(points[:, 0], points[:, 1])
    theta = np.arctan2(radial, points[:, 2])
    bent = theta * (1 + sum(k * theta ** (2 * n) for n, k in enumerate(D, 1)))
    rays = points[:, :2] * (bent / radial)[:, None]
    expected = np.stack([55 * rays[:, 0] + 47, 56 * rays[:, 1] + 31], axis=1)
    uv, valid = camera.project(points)
    assert valid.sum() > 20
    np.testing.assert_allclose(uv[valid], expected[valid], atol=1e-6)


def test_boxes_and_what_is_ignored(root: Path) -> None:
    source = open_source("zod", root=root, split="train")
    labels = source[0].labels
    names = ("Vehicle_Car", "VulnerableVehicle_NoRider", "TrafficSign_Back")
    assert labels.class_names == names
    np.testing.assert_allclose(labels.visibility, 0.645, atol=1e-6)
    T_camera_lidar = np.linalg.inv(T_EGO_CAMERA) @ T_EGO_LIDAR
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    for row, name in enumerate(("car", "empty", "sign")):
        center, size, yaw = OBJECTS[name][2]
        R = Rotation.from_euler("z", yaw).as_matrix()
        corners = np.c_[signs * np.array(size) / 2 @ R.T + center, np.ones(8)]
        expected = (corners @ T_camera_lidar.T)[:, :3]
        found = box_corners(labels.boxes_3d[row : row + 1].astype(np.float64))[0]
        gaps = np.linalg.norm(found[:, None] - expected[None], axis=2).min(axis=1)
        assert gaps.max() < 0.2, "the camera looks down by 3 degrees, which boxes do not"
        np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=1e-4)
    # without a box in space, and unclear
    np.testing.assert_allclose(labels.ignore, [[11, 20, 31, 44], [13, 20, 33, 44]])
    assert source[1].labels is None
    classes = read_classes("zod")
    assert (classes.detection_ids(names) >= 0).all()
    assert Taxonomy().detection_ids(("Vehicle_Van", "VulnerableVehicle_Bicycle")).tolist() == [0, 4]
    assert not Taxonomy().is_unknown(classes.detection_classes).any()
    assert Taxonomy().is_ignored(["Vehicle_Artificial"]).all()


def test_sequences_have_all_images_with_a_sweep(root: Path, caplog) -> None:
    source = open_source("zod", root=root, subset="sequences")
    assert "1 of 2 pairs of image and sweep are left out" in caplog.text
    assert [frame.stamp_ns % 10**9 for frame in source] == [IMAGE_US * 1000]
    info = json.loads((root / "trainval-sequences-mini.json").read_text())
    info["train"][0]["lidar_frames"]["velodyne"][1]["time"] = iso(LATER_US - 20_000)
    (root / "trainval-sequences-mini.json").write_text(json.dumps(info))
    both = open_source("zod", root=root, subset="sequences")
    assert [frame.stamp_ns % 10**9 for frame in both] == [IMAGE_US * 1000, LATER_US * 1000]


def test_what_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no trainval-drives"):
        open_source("zod", root=root, subset="drives")
    with pytest.raises(Fault, match="names no image of dnat beside a sweep"):
        open_source("zod", root=root, anonymization="dnat")
    (root / "trainval-frames-full.json").write_text("{}")
    with pytest.raises(
        Fault, match=r"full\.json, trainval-frames-mini\.json: choose one by version"
    ):
        open_source("zod", root=root)
    with pytest.raises(Fault, match="is not as documented: KeyError"):
        open_source("zod", root=root, version="full")
    source = open_source("zod", root=root, version="mini")
    folder = root / "single_frames" / "000007"
    for name, content, words in (
        ("annotations/object_detection.json", "[{}]", "json is not as documented: KeyError"),
        ("ego_motion.json", '{"poses": [], "timestamps": []}', "no poses at rising times"),
        ("calibration.json", '{"FC": {}}', "calibration.json is not as documented"),
    ):
        (folder / name).write_text(content)
        with pytest.raises(Fault, match=words):
            source[0]
