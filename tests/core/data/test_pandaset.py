"""PandaSet on files that the test writes to the documented format."""

from __future__ import annotations

import copyreg
import gzip
import io
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.pickled_tables import read_pickled_columns
from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.taxonomy import Taxonomy, read_classes

pd = pytest.importorskip("pandas", reason="needs: pip install '.[pandaset]'")

START_S = 1557540000.0
INTRINSICS = {"fx": 60.0, "fy": 61.0, "cx": 47.5, "cy": 31.0}
AHEAD = Rotation.from_matrix([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""A camera that looks along x, z up: its x is right, its y down."""
TURNS = {"front_camera": 0.0, "left_camera": 90.0}
CLASSES = {"5": "Vegetation", "7": "Road", "13": "Car", "42": "Other Static Object"}
CUBOIDS = {
    # uuid, label, yaw, sensor, centre and dimensions (width, length, height), world
    "car": ("Car", 0.4, -1, (42.0, 11.0, 1.0), (2.0, 4.5, 1.6)),
    "twin-0": ("Pedestrian", -1.0, 0, (38.0, 14.0, 1.0), (0.8, 0.6, 1.8)),
    "twin-1": ("Pedestrian", -1.1, 1, (38.2, 14.1, 1.0), (0.8, 0.6, 1.8)),
    "behind": ("Cones", 0.0, -1, (10.0, 10.0, 0.5), (0.4, 0.4, 0.8)),
}


def camera_pose(name: str, at: int) -> np.ndarray:
    """The vehicle drives along x and turns."""
    T = np.eye(4)
    turn = Rotation.from_euler("z", TURNS[name] + 5.0 * at, degrees=True)
    T[:3, :3], T[:3, 3] = (turn * AHEAD).as_matrix(), [30.0 + at, 10.0, 1.6]
    return T


def lidar_pose(at: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("zyx", [80 + 5.0 * at, 2, -1], degrees=True).as_matrix()
    T[:3, 3] = [29.5 + at, 10.1, 2.0]
    return T


def written(T: np.ndarray) -> dict:
    x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
    return {
        "position": dict(zip("xyz", T[:3, 3].tolist(), strict=True)),
        "heading": {"w": w, "x": x, "y": y, "z": z},
    }


def cloud(at: int) -> np.ndarray:
    """Return x, y, z in the world, intensity, time and number of the LiDAR of each return."""
    rng = np.random.default_rng(at)
    points = rng.uniform((32, -10, 0, 0, 0, 0), (70, 30, 4, 255, 1, 2), (300, 6))
    points[:40, :3] = rng.uniform((41.8, 10.8, 0.8), (42.2, 11.2, 1.2), (40, 3))  # in the car
    points[:, 4] += START_S
    points[:, 5] = points[:, 5].astype(int)
    return points


def table(columns: dict[str, object]) -> pd.DataFrame:
    """Return a table as pandas had it in 2020, whose words are objects."""
    words = {k: pd.Series(v, dtype=object) for k, v in columns.items() if isinstance(v[0], str)}
    found = pd.DataFrame({**columns, **words}, columns=pd.Index(list(columns), dtype=object))
    found.index = pd.Index(np.arange(len(found)), name="index")
    return found


def write_table(path: Path, columns: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table(columns).to_pickle(path, compression="gzip")


def write_json(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sweeps of an annotated sequence with two cameras, and of a bare one with one."""
    for name, cameras in (("001", [*TURNS]), ("002", ["front_camera"])):
        folder, sweeps = tmp_path / name, range(2)
        for at in sweeps:
            columns = dict(zip("xyzitd", cloud(at).T, strict=True))
            columns["d"] = columns["d"].astype(np.int64)
            write_table(folder / "lidar" / f"{at:02d}.pkl.gz", columns)
        write_json(folder / "lidar" / "poses.json", [written(lidar_pose(at)) for at in sweeps])
        write_json(folder / "lidar" / "timestamps.json", [START_S + 0.1 * at for at in sweeps])
        for camera in cameras:
            own = folder / "camera" / camera
            write_json(own / "intrinsics.json", INTRINSICS)
            write_json(own / "poses.json", [written(camera_pose(camera, at)) for at in sweeps])
            write_json(own / "timestamps.json", [START_S + 0.1 * at + 0.03 for at in sweeps])
            for at in sweeps:
                cv2.imwrite(str(own / f"{at:02d}.jpg"), np.full((64, 96, 3), 40 * at, np.uint8))
        if name == "002":
            continue
        labels, yaws, sensors, centers, sizes = zip(*CUBOIDS.values(), strict=True)
        columns = {"uuid": [*CUBOIDS], "label": [*labels], "yaw": [*yaws], "stationary": [True] * 4}
        columns |= dict(zip([f"position.{a}" for a in "xyz"], np.array(centers).T, strict=True))
        columns |= dict(zip([f"dimensions.{a}" for a in "xyz"], np.array(sizes).T, strict=True))
        write_table(
            folder / "annotations/cuboids/00.pkl.gz", columns | {"cuboids.sensor_id": [*sensors]}
        )
        ids = np.resize([5, 7, 13, 42, 1], 300)
        write_table(folder / "annotations/semseg/00.pkl.gz", {"class": ids})
        write_json(folder / "annotations/semseg/classes.json", CLASSES)
    return tmp_path


def test_points_are_where_they_were_in_the_world(root: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source("pandaset", root=root, lidar="both")))
    frames = list(source)
    cameras = ["front_camera", "left_camera"]
    assert [frame.camera_name for frame in frames] == [*cameras, *cameras, *["front_camera"] * 2]
    for frame, at in zip(frames, (0, 0, 1, 1, 0, 1), strict=True):
        T_world_camera = camera_pose(frame.camera_name, at)
        np.testing.assert_allclose(frame.T_fixed_camera, T_world_camera, atol=1e-9)
        scan, expected = frame.companion, cloud(at)
        ends = np.c_[scan.points[:, :3], np.ones(300)] @ (T_world_camera @ scan.T_camera_lidar).T
        np.testing.assert_allclose(ends[:, :3], expected[:, :3], atol=1e-4)
        np.testing.assert_allclose(scan.points[:, 3], expected[:, 3], rtol=1e-6)
        assert abs(scan.points[:, :3]).max() < 80, "points are in the LiDAR's frame"
        assert frame.stamp_ns - scan.stamp_ns == 30_000_000
        assert scan.stamp_ns == 1_557_540_000_000_000_000 + at * 100_000_000
        assert abs(int(frame.image[0, 0, 0]) - 40 * at) < 4
    # as the devkit projects
    front, point = frames[0], np.array([45.0, 12.0, 3.0])
    x, y, z = np.linalg.inv(camera_pose("front_camera", 0))[:3] @ [*point, 1]
    expected_uv = [60 * x / z + 47.5, 61 * y / z + 31]
    assert z > 10 and x < 0 and y < 0, "it is ahead, left of the camera and above it"
    np.testing.assert_allclose(front.camera.project(np.array([[x, y, z]]))[0][0], expected_uv)


def test_boxes_are_those_of_the_devkit(root: Path) -> None:
    source = open_source("pandaset", root=root, cameras="front_camera")
    labels = source[0].labels
    assert labels.class_names == ("Car", "Pedestrian") and labels.track_ids == ("car", "twin-0")
    T_camera_world = np.linalg.inv(camera_pose("front_camera", 0))
    spinning = cloud(0)[cloud(0)[:, 5] == 0]
    for row, uuid in enumerate(labels.track_ids):
        _, yaw, _, center, size = CUBOIDS[uuid]
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        R = Rotation.from_euler("z", yaw).as_matrix()
        corners = signs * np.array(size) / 2 @ R.T + center
        expected = corners @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
        found = box_corners(labels.boxes_3d[row : row + 1].astype(np.float64))[0]
        gaps = np.linalg.norm(found[:, None] - expected[None], axis=2)
        assert gaps.min(axis=1).max() < 1e-4 and gaps.min(axis=0).max() < 1e-4
        # the box looks along the side that dimensions.y is of
        ahead = T_camera_world[:3, :3] @ R @ [0, 1, 0]
        heading = labels.boxes_3d[row, 6]
        np.testing.assert_allclose([np.cos(heading), 0, -np.sin(heading)], ahead, atol=1e-5)
        inside = (np.abs((spinning[:, :3] - center) @ R) <= np.array(size) / 2).all(axis=1)
        assert labels.num_points[row] == inside.sum()
    assert labels.num_points[0] > 10
    forward = open_source("pandaset", root=root, cameras="front_camera", lidar="forward")[0]
    assert forward.labels.track_ids == ("car", "twin-1")
    assert len(forward.companion.points) + len(spinning) == 300
    assert source[1].labels is None


def test_returns_have_their_classes(root: Path) -> None:
    frame = open_source("pandaset", root=root, cameras="front_camera", lidar="both")[0]
    labels = frame.labels
    ids = np.resize([5, 7, 13, 42, 1], 300)
    np.testing.assert_array_equal(labels.point_labels, np.where(ids == 1, UNLABELLED, ids))
    named = {labels.label_names[i] for i in (5, 7, 13, 42)}
    assert named == {*CLASSES.values()}
    spinning = open_source("pandaset", root=root, cameras="front_camera")[0].labels
    kept = cloud(0)[:, 5] == 0
    np.testing.assert_array_equal(spinning.point_labels, labels.point_labels[kept])
    classes = read_classes("pandaset")
    of_model = [
        classes.segmentation_classes[i]
        for i in classes.label_ids(np.uint8([5, 7, 13, 42]), labels.label_names)
    ]
    assert of_model == ["vegetation", "road", "car", "static object"]
    names = ("Car", "Other Vehicle - Pedicab", "Tram / Subway", "Pedestrian with Object")
    assert (classes.detection_ids(names) >= 0).all()
    names = ("Car", "Semi-truck", "Pedestrian with Object", "Rolling Containers")
    assert Taxonomy().detection_ids(names).tolist() == [0, 1, 5, -1]
    assert not Taxonomy().is_unknown(classes.detection_classes).any()


class OldPickler(pickle.Pickler):
    """Writes tables as pandas 1.0 did, of which the published ones are."""

    def reducer_override(self, value: object) -> object:
        if isinstance(value, pd.DataFrame):
            state = {"_data": value._mgr, "_typ": "dataframe", "_metadata": [], "attrs": {}}
            return copyreg.__newobj__, (pd.DataFrame,), state
        if type(value).__name__ == "BlockManager":
            axes = [pd.Index(list(value.axes[0]), dtype=object), pd.Index(list(value.axes[1]))]
            parts = [(block.values, block.mgr_locs.indexer) for block in value.blocks]
            blocks = [{"values": values, "mgr_locs": where} for values, where in parts]
            state = axes, [v for v, _ in parts], [], {"0.14.1": {"axes": axes, "blocks": blocks}}
            return copyreg.__newobj__, (type(value),), state
        return NotImplemented


def test_tables_of_2020_are_read(tmp_path: Path) -> None:
    columns = {"label": ["Car", "Bus"], "yaw": [0.5, 1.5], "camera_used": [-1, 3]}
    data = io.BytesIO()
    OldPickler(data, protocol=3).dump(table(columns))
    old = data.getvalue()
    for new_name, name in (
        (b"cpandas\nDataFrame\n", b"cpandas.core.frame\nDataFrame\n"),
        (b"cpandas\nIndex\n", b"cpandas.core.indexes.numeric\nInt64Index\n"),
        (b"cnumpy._core.", b"cnumpy.core."),
    ):
        old = old.replace(new_name, name)
    assert b"indexes.numeric" in old and b"0.14.1" in old
    (tmp_path / "00.pkl.gz").write_bytes(gzip.compress(old))
    found = read_pickled_columns(tmp_path / "00.pkl.gz", ("label", "yaw", "camera_used"), "")
    assert found["label"].tolist() == columns["label"] and found["yaw"].tolist() == columns["yaw"]
    assert found["camera_used"].tolist() == columns["camera_used"]


class Runs:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> object:
        return os.system, (self.command,)


def test_what_a_pickle_may_not_is_refused_and_not_run(root: Path) -> None:
    path = root / "001" / "lidar" / "00.pkl.gz"
    source = open_source("pandaset", root=root)
    path.write_bytes(gzip.compress(pickle.dumps(Runs(f"touch {root / 'ran'}"))))
    with pytest.raises(Fault, match=r"00\.pkl\.gz is no plain table: it uses posix\.system"):
        source[0]
    assert not (root / "ran").exists()
    for content, words in (
        (gzip.compress(pickle.dumps([1, 2])), "has no column x; it holds a list"),
        (b"torn", "is damaged or no table of pandas"),
        (gzip.compress(b"torn"), "is damaged or no table of pandas"),
    ):
        path.write_bytes(content)
        with pytest.raises(Fault, match=words):
            source[0]


def test_what_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(Fault, match="top_camera is none of front_camera"):
        open_source("pandaset", root=root, cameras="top_camera")
    with pytest.raises(FileNotFoundError, match="holds no sequence; expected SEQUENCE"):
        open_source("pandaset", root=root / "001" / "camera")
    write_json(root / "001" / "camera" / "left_camera" / "poses.json", [])
    with pytest.raises(Fault, match=r"left_camera/poses\.json has no pose of number 0"):
        open_source("pandaset", root=root / "001", cameras="left_camera")[0]
    write_json(root / "001" / "camera" / "front_camera" / "intrinsics.json", {"fx": 1})
    with pytest.raises(Fault, match=r"intrinsics\.json is not as documented: KeyError"):
        open_source("pandaset", root=root)[0]
    write_json(
        root / "001" / "camera" / "front_camera" / "intrinsics.json", {**INTRINSICS, "fx": 0}
    )
    with pytest.raises(Fault, match=r"front_camera/intrinsics\.json: focal lengths fx=0\.0"):
        open_source("pandaset", root=root)[0]
    (root / "002" / "lidar" / "poses.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lidar/poses\.json does not exist"):
        open_source("pandaset", root=root / "002", cameras="front_camera")[0]


def test_images_and_sweeps_without_each_other_are_counted(root: Path, caplog) -> None:
    assert len(open_source("pandaset", root=root, cameras="front_camera")) == 4
    assert not caplog.text
    sequence = root / "001"
    (sequence / "lidar" / "._00.pkl.gz").write_bytes(b"\0\5\x16\7 of another system")
    (sequence / "camera" / "front_camera" / "00.jpg").unlink()
    assert len(open_source("pandaset", root=root, cameras="front_camera")) == 3
    assert "1 of 4 pairs of image and sweep are left out" in caplog.text
    assert "the first 001/front_camera/00" in caplog.text
