"""nuScenes against plain matrix algebra on its JSON tables."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.nuscenes import CAMERAS, NuScenes
from lemumo_core.data.sources.nuscenes_splits import SPLITS, split_scenes
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.taxonomy import SEGMENTATION_IDS, Taxonomy

# The 32 classes of nuScenes-lidarseg.
POINT_CLASSES = {
    "noise": None,
    "animal": None,
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.personal_mobility": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.stroller": "pedestrian",
    "human.pedestrian.wheelchair": "pedestrian",
    "movable_object.barrier": None,
    "movable_object.debris": None,
    "movable_object.pushable_pullable": None,
    "movable_object.trafficcone": None,
    "static_object.bicycle_rack": None,
    "vehicle.bicycle": "two_wheeler",
    "vehicle.bus.bendy": "large_vehicle",
    "vehicle.bus.rigid": "large_vehicle",
    "vehicle.car": "car",
    "vehicle.construction": "large_vehicle",
    "vehicle.emergency.ambulance": "large_vehicle",
    "vehicle.emergency.police": "car",
    "vehicle.motorcycle": "two_wheeler",
    "vehicle.trailer": "large_vehicle",
    "vehicle.truck": "large_vehicle",
    "flat.driveable_surface": "road",
    "flat.other": None,
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "building",
    "static.other": None,
    "static.vegetation": "vegetation",
    "vehicle.ego": None,
}


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "nuscenes_mini_tables"


@pytest.fixture(scope="module")
def tables(root):
    return {file.stem: json.loads(file.read_text()) for file in root.glob("v1.0-mini/*.json")}


@pytest.fixture
def copy(root, tmp_path):
    """The fixture with tables that may be written to."""
    shutil.copytree(root / "v1.0-mini", tmp_path / "v1.0-mini")
    (tmp_path / "samples").symlink_to(root / "samples")
    return tmp_path


def edit(copy: Path, table: str, change) -> None:
    """Write ``change(rows)``, or the rows that it changed in place."""
    file = copy / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    changed = change(rows)
    file.write_text(json.dumps(rows if changed is None else changed))


def pose(row) -> np.ndarray:
    w, x, y, z = row["rotation"]
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    T[:3, 3] = row["translation"]
    return T


def world_from(tables, channel: str) -> np.ndarray:
    """Pose of a sensor in the world at its own time; the fixture has one sample."""
    sensor = next(row for row in tables["sensor"] if row["channel"] == channel)
    mount = next(r for r in tables["calibrated_sensor"] if r["sensor_token"] == sensor["token"])
    shot = next(r for r in tables["sample_data"] if r["calibrated_sensor_token"] == mount["token"])
    ego = next(row for row in tables["ego_pose"] if row["token"] == shot["ego_pose_token"])
    return pose(ego) @ pose(mount)


@pytest.mark.parametrize("camera", CAMERAS)
def test_chain_passes_through_both_ego_poses(root, tables, camera):
    frame = NuScenes(root, camera)[0]
    expected = np.linalg.inv(world_from(tables, camera)) @ world_from(tables, "LIDAR_TOP")
    # 1e-9: coordinates in the world are in the thousands.
    np.testing.assert_allclose(frame.companion.T_camera_lidar, expected, atol=1e-9)
    np.testing.assert_allclose(frame.T_fixed_camera, world_from(tables, camera), atol=1e-9)


def test_frame_holds_the_files(root, tables):
    frame = NuScenes(root)[0]
    shots = {row["filename"].split("/")[1]: row for row in tables["sample_data"]}
    raw = np.fromfile(root / shots["LIDAR_TOP"]["filename"], np.float32).reshape(-1, 5)
    assert np.array_equal(frame.companion.points, raw)
    assert frame.companion.points.flags["C_CONTIGUOUS"]
    assert frame.companion.points[:, 3].max() > 1
    assert frame.stamp_ns == shots["CAM_FRONT"]["timestamp"] * 1000
    assert frame.companion.stamp_ns == shots["LIDAR_TOP"]["timestamp"] * 1000
    assert frame.image.shape == (900, 1600, 3)
    assert (frame.camera.width, frame.camera.height) == (1600, 900)
    assert frame.camera_name == "CAM_FRONT"


def test_all_annotations_against_their_definition(root, tables):
    category = {row["token"]: row["name"] for row in tables["category"]}
    instance = {row["token"]: category[row["category_token"]] for row in tables["instance"]}
    assert len(tables["sample_annotation"]) == 69
    seen = set()
    for name in CAMERAS:
        frame = NuScenes(root, name)[0]
        T_camera_world = np.linalg.inv(world_from(tables, name))
        expected = []
        for i, row in enumerate(tables["sample_annotation"]):
            T = T_camera_world @ pose(row)
            w, length, h = row["size"]
            signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / 2
            corners = (signs * [length, w, h]) @ T[:3, :3].T + T[:3, 3]
            x, y, z = frame.camera.K @ corners.T
            inside = (z > 0) & (x / z > -0.5) & (x / z < 1599.5) & (y / z > -0.5) & (y / z < 899.5)
            if T[2, 3] > 0 and inside.any():
                expected.append((i, row, T, corners))
        labels = frame.labels
        assert labels.class_names == tuple(
            instance[row["instance_token"]] for _, row, _, _ in expected
        )
        seen |= {i for i, *_ in expected}
        for box, (_, row, T, corners) in zip(labels.boxes_3d, expected, strict=True):
            w, length, h = row["size"]
            np.testing.assert_allclose(box[:6], [*T[:3, 3], length, w, h], rtol=1e-5, atol=1e-5)
            forward = T[[0, 2], 0] / np.linalg.norm(T[[0, 2], 0])
            np.testing.assert_allclose([np.cos(box[6]), -np.sin(box[6])], forward, atol=1e-5)
            # Only pitch and roll are lost: a few centimetres for a car, more for a bus.
            error = np.linalg.norm(box_corners(box[None])[0][:, None] - corners, axis=2).min(axis=1)
            assert error.max() < 0.05 * max(length, 4)
    assert len(seen) == 69  # the six views leave none out


def test_six_cameras_account_for_all_annotations(root, tables):
    source = NuScenes(root)
    assert [frame.camera_name for frame in source] == list(CAMERAS) and len(source) == 6
    assert source[-1].camera_name == CAMERAS[5] == source[np.int64(5)].camera_name
    for index in (6, -7):
        with pytest.raises(IndexError):
            source[index]
    centers = np.array([row["translation"] for row in tables["sample_annotation"]])
    seen = np.zeros(len(centers), int)
    for frame in source:
        T_world_camera = world_from(tables, frame.camera_name)
        dropped = np.ones(len(centers), bool)
        labels = frame.labels
        for box, count in zip(labels.boxes_3d, labels.num_points, strict=True):
            center = transform(T_world_camera, box[None, :3].astype(np.float64))
            distance = np.linalg.norm(centers - center, axis=1)
            assert distance.min() < 1e-3
            assert count == tables["sample_annotation"][distance.argmin()]["num_lidar_pts"]
            dropped[distance.argmin()] = False
        assert dropped.sum() == 69 - len(labels.boxes_3d)
        seen += ~dropped
        # What is dropped is behind the camera or beside its image.
        for row in np.array(tables["sample_annotation"])[dropped]:
            size = np.array(row["size"])[[1, 0, 2]] / 2
            signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
            T = inverse(T_world_camera) @ pose(row)
            uv, _ = frame.camera.project(transform(T, signs * size))
            outside = ~((uv > 0) & (uv < [1599, 899])).all(axis=1)
            assert T[2, 3] <= 0 or outside.all()
    assert (seen > 0).all() and len(seen) == 69


def test_boxes_of_the_devkit(root):
    devkit = pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    nusc = devkit.NuScenes("v1.0-mini", str(root), verbose=False)
    for frame in NuScenes(root):
        token = nusc.sample[0]["data"][frame.camera_name]
        centers = {box.token: box.center for box in nusc.get_sample_data(token)[1]}
        # The devkit also wants every corner in front of the camera.
        ours = frame.labels.boxes_3d[:, :3]
        for center in centers.values():
            assert np.linalg.norm(ours - center, axis=1).min() < 1e-3
        assert len(centers) <= len(ours)


def test_frames_are_ordered_by_keyframe_then_camera(copy):
    """A second keyframe, one second earlier, last in its tables and without annotations."""

    def earlier(rows):
        for row in list(rows):
            names = {"token": "sample"} if "sample_token" not in row else {"sample_token": "sample"}
            rows.append({**row, **names, "timestamp": row["timestamp"] - 1_000_000})

    edit(copy, "sample", earlier)
    edit(copy, "sample_data", earlier)
    cameras = ("CAM_BACK", "CAM_FRONT")
    source = NuScenes(copy, cameras)
    frames = list(source)
    assert [frame.camera_name for frame in frames] == [*cameras, *cameras]
    assert [frame.stamp_ns for frame in frames[:2]] == [
        frame.stamp_ns - 1_000_000_000 for frame in frames[2:]
    ]
    assert [len(frame.labels.boxes_3d) > 0 for frame in frames] == [False, False, True, True]
    assert frames[0].labels.boxes_2d.shape == (0, 4)
    assert json.loads(json.dumps(source.describe())) == {
        "source": "nuscenes",
        "root": str(copy),
        "version": "v1.0-mini",
        "split": None,
        "cameras": list(cameras),
        "frames": 4,
    }


def test_visibility_is_the_middle_of_its_bin(copy):
    tokens = {"1": 0.2, "2": 0.5, "3": 0.7, "4": 0.9, "": np.nan}

    def scatter(rows):
        for i, row in enumerate(rows):
            row["visibility_token"] = list(tokens)[i % 5]
            row["num_lidar_pts"] = i  # tells them apart
        del rows[0]["visibility_token"]

    edit(copy, "sample_annotation", scatter)
    seen = set()
    for frame in NuScenes(copy):
        labels = frame.labels
        assert labels.visibility.dtype == np.float32 and labels.num_points.dtype == np.int32
        expected = [list(tokens.values())[i % 5] if i else np.nan for i in labels.num_points]
        np.testing.assert_array_equal(labels.visibility, np.array(expected, np.float32))
        seen |= {*labels.num_points.tolist()}
    assert seen == set(range(69))


def test_tables_without_annotations_give_no_labels(copy):
    edit(copy, "sample_annotation", lambda rows: [])
    assert all(frame.labels is None for frame in NuScenes(copy))


@pytest.mark.parametrize("annotated", [True, False])
def test_lidarseg(copy, tables, annotated):
    names = list(POINT_CLASSES)
    ids = [
        UNLABELLED if ours is None else SEGMENTATION_IDS[ours] for ours in POINT_CLASSES.values()
    ]
    assert Taxonomy().label_ids(np.arange(len(names)), names).tolist() == ids
    tokens = {row["name"]: row["token"] for row in tables["category"]}
    edit(
        copy,
        "category",
        lambda _: [
            {"token": tokens.get(name, name), "name": name, "index": i}
            for i, name in enumerate(names)
        ],
    )
    if not annotated:
        edit(copy, "sample_annotation", lambda rows: [])
    sweep = next(row for row in tables["sample_data"] if "LIDAR_TOP" in row["filename"])
    name = f"lidarseg/v1.0-mini/{sweep['token']}_lidarseg.bin"
    (copy / "v1.0-mini" / "lidarseg.json").write_text(
        json.dumps([{"token": "x", "sample_data_token": sweep["token"], "filename": name}])
    )
    source = NuScenes(copy)
    with pytest.raises(FileNotFoundError, match=r"_lidarseg\.bin"):
        source[0]
    (copy / name).parent.mkdir(parents=True)
    count = (copy / sweep["filename"]).stat().st_size // 20
    classes = np.random.default_rng(0).integers(0, 33, count).astype(np.uint8)  # 32: no category
    classes.tofile(copy / name)
    expected = np.where(classes < 32, classes, UNLABELLED)
    for frame in source:
        assert np.array_equal(frame.labels.point_labels, expected)
        assert frame.labels.point_labels.dtype == np.uint8
        assert frame.labels.label_names == tuple(names)
        assert len(frame.companion.points) == count
        assert (frame.labels.boxes_3d is not None) == annotated
    classes[1:].tofile(copy / name)
    with pytest.raises(Fault, match=rf"_lidarseg\.bin labels {count - 1} .*LIDAR_TOP.*{count}"):
        source[0]


def test_splits_are_the_devkits():
    splits = pytest.importorskip("nuscenes.utils.splits", reason="needs nuscenes-devkit")
    expected = splits.create_splits_scenes()
    assert SPLITS.keys() == expected.keys()
    for split, (version, _) in SPLITS.items():
        assert split_scenes(split, Path(f"v1.0-{version}")) == set(expected[split])


def test_splits_share_no_scene():
    def scenes(split):
        return split_scenes(split, Path(f"v1.0-{SPLITS[split][0]}"))

    train, val, test = map(scenes, ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (700, 150, 150)
    assert len(train | val | test) == 1000
    assert scenes("train_detect") | scenes("train_track") == train
    assert scenes("mini_train") <= train | val and scenes("mini_val") <= train | val


def test_a_split_selects_scenes(root):
    assert len(NuScenes(root, split="mini_train")) == 6  # scene-0061
    assert NuScenes(root, split="mini_train").describe()["split"] == "mini_train"
    with pytest.raises(Fault, match=r"v1\.0-mini holds no keyframe of split mini_val"):
        NuScenes(root, split="mini_val")
    with pytest.raises(Fault, match=r"v1\.0-mini does not hold the split train; .*v1\.0-trainval"):
        NuScenes(root, split="train")
    with pytest.raises(Fault, match=r"unknown nuScenes split random; known: train, "):
        NuScenes(root, split="random")


def test_tables_survive_pickling(root):
    assert len(pickle.loads(pickle.dumps(NuScenes(root, "CAM_BACK")))) == 1


def test_unknown_camera_lists_what_there_is(root):
    with pytest.raises(Fault, match=r"CAM_TOP.*CAM_BACK, .*LIDAR_TOP"):
        NuScenes(root, "CAM_TOP")


def test_missing_parts_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"v1\.0-\*"):
        NuScenes(tmp_path)
    shutil.copytree(root / "v1.0-mini", tmp_path / "v1.0-mini")
    with pytest.raises(FileNotFoundError, match="samples/CAM_FRONT"):
        NuScenes(tmp_path)
    (tmp_path / "v1.0-mini" / "category.json").write_text("[]")
    with pytest.raises(
        Fault, match=r"v1\.0-mini is not as documented: KeyError.*download complete"
    ):
        NuScenes(tmp_path)
    (tmp_path / "v1.0-mini" / "category.json").write_text("[{")
    with pytest.raises(Fault, match=r"category\.json is not JSON"):
        NuScenes(tmp_path)
    (tmp_path / "v1.0-mini" / "category.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"category\.json"):
        NuScenes(tmp_path)
    (tmp_path / "v1.0-trainval").mkdir()
    with pytest.raises(Fault, match=r"v1\.0-mini, v1\.0-trainval"):
        NuScenes(tmp_path)


def test_half_a_download_is_named(root, tables, tmp_path):
    shutil.copytree(root / "v1.0-mini", tmp_path / "v1.0-mini")
    for channel in CAMERAS:
        (tmp_path / "samples" / channel).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="samples/LIDAR_TOP"):
        NuScenes(tmp_path)
    (tmp_path / "samples" / "LIDAR_TOP").mkdir()
    shots = {row["filename"].split("/")[1]: row["filename"] for row in tables["sample_data"]}
    source = NuScenes(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(shots["CAM_FRONT"])):
        source[0]
    shutil.copy(root / shots["CAM_FRONT"], tmp_path / shots["CAM_FRONT"])
    with pytest.raises(FileNotFoundError, match=re.escape(shots["LIDAR_TOP"])):
        source[0]
