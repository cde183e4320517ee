"""nuScenes against plain matrix algebra on its JSON tables."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.faults import Fault
from lemumo_core.geometry.boxes import box_corners

CAMERAS = [
    f"CAM_{where}"
    for where in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT", "BACK_RIGHT")
]


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "nuscenes_mini_tables"


@pytest.fixture(scope="module")
def tables(root):
    return {file.stem: json.loads(file.read_text()) for file in root.glob("v1.0-mini/*.json")}


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


def test_frame_holds_the_files(root, tables):
    frame = NuScenes(root)[0]
    shots = {row["filename"].split("/")[1]: row for row in tables["sample_data"]}
    raw = np.fromfile(root / shots["LIDAR_TOP"]["filename"], np.float32).reshape(-1, 5)
    assert np.array_equal(frame.companion.points, raw[:, :4])
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
        NuScenes(tmp_path)[0]
    (tmp_path / "v1.0-mini" / "category.json").write_text("[]")
    with pytest.raises(Fault, match="missing field or token"):
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
