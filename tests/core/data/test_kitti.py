"""KITTI against the files themselves, and its own 2D boxes."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.faults import Fault
from lemumo_core.geometry.boxes import points_in_box
from lemumo_core.geometry.se3 import transform

TOLERANCE_PX = 4.0
P_RECT_03 = np.array(  # of 2011_09_26, whose P_rect_02 the fixtures hold
    [
        [721.5377, 0, 609.5593, -339.5242],
        [0, 721.5377, 172.854, 2.199936],
        [0, 0, 1, 2.729905e-3],
    ]
)


def calibration(path: Path) -> dict[str, np.ndarray]:
    rows = [line.split() for line in path.read_text().splitlines() if line]
    return {row[0].rstrip(":"): np.array(row[1:], float) for row in rows}


def lidar_in_camera(frame) -> np.ndarray:
    points = frame.companion.points[:, :3].astype(np.float64)
    return transform(frame.companion.T_camera_lidar, points)


@pytest.fixture
def both_cameras(shared_data, tmp_path):
    """The object fixtures with a right image, which they lack."""
    training = shared_data / "kitti_object" / "training"
    copy = tmp_path / "training"
    (copy / "image_3").mkdir(parents=True)
    for folder in ("image_2", "velodyne", "calib"):
        (copy / folder).symlink_to(training / folder)
    shutil.copytree(training / "label_2", copy / "label_2")
    for file in (training / "image_2").glob("*.png"):
        shutil.copy(file, copy / "image_3")
    return tmp_path


@pytest.mark.parametrize("camera", [2, 3])
def test_projection_is_P_R0_Tr(both_cameras, camera):
    source = KittiObject(both_cameras, camera=camera)
    for name, frame in zip(source.names, source, strict=True):
        calib = calibration(source.folder / "calib" / f"{name}.txt")
        R0 = np.eye(4)
        R0[:3, :3] = calib["R0_rect"].reshape(3, 3)
        Tr = np.vstack([calib["Tr_velo_to_cam"].reshape(3, 4), [0, 0, 0, 1]])
        X = np.c_[frame.companion.points[:, :3], np.ones(len(frame.companion.points))]
        u, v, w = calib[f"P{camera}"].reshape(3, 4) @ R0 @ Tr @ X.T
        uv, valid = frame.camera.project(lidar_in_camera(frame))
        front = w > 1.0
        assert valid[front].all()
        np.testing.assert_allclose(uv[front], np.stack([u / w, v / w], 1)[front], atol=1e-6)
        np.testing.assert_allclose(lidar_in_camera(frame)[:, 2], w, atol=1e-9)
        assert frame.camera_name == f"image_0{camera}"


@pytest.mark.parametrize("camera", [2, 3])
def test_points_of_each_3d_box_fall_into_its_2d_box(both_cameras, camera):
    checked = 0
    for frame in KittiObject(both_cameras, camera=camera):
        labels = frame.labels
        points = lidar_in_camera(frame)
        for box, (x1, y1, x2, y2) in zip(labels.boxes_3d, labels.boxes_2d, strict=True):
            uv, _ = frame.camera.project(points[points_in_box(points, box)])
            assert (uv > [x1 - TOLERANCE_PX, y1 - TOLERANCE_PX]).all()
            assert (uv < [x2 + TOLERANCE_PX, y2 + TOLERANCE_PX]).all()
            checked += len(uv) > 0
    assert checked == 12  # of 13: one car is wholly hidden


def test_labels_are_the_file_without_dont_care(shared_data):
    source = KittiObject(shared_data / "kitti_object")
    frame = source[source.names.index("000000")]
    assert frame.labels.class_names == ("pedestrian",)
    np.testing.assert_allclose(
        frame.labels.boxes_2d[0], [712.40, 143.00, 810.73, 307.92], atol=1e-4
    )
    P2 = calibration(source.folder / "calib" / "000000.txt")["P2"].reshape(3, 4)
    shift = np.linalg.inv(P2[:, :3]) @ P2[:, 3]
    center = np.array([1.84, 1.47 - 1.89 / 2, 8.41]) + shift
    np.testing.assert_allclose(
        frame.labels.boxes_3d[0], [*center, 1.20, 0.48, 1.89, 0.01], atol=1e-5
    )


def test_visibility_and_point_counts(shared_data):
    source = KittiObject(shared_data / "kitti_object")
    share = {"0": 1.0, "1": 0.6, "2": 0.3, "3": np.nan}
    for name, frame in zip(source.names, source, strict=True):
        lines = (source.folder / "label_2" / f"{name}.txt").read_text().splitlines()
        rows = [line.split() for line in lines if not line.startswith("DontCare")]
        labels = frame.labels
        expected = np.array([share[row[2]] for row in rows], np.float32)
        assert np.array_equal(labels.visibility, expected, equal_nan=True)
        points = lidar_in_camera(frame)
        for box, count in zip(labels.boxes_3d.astype(float), labels.num_points, strict=True):
            inside = 0
            forward = np.array([np.cos(box[6]), 0, -np.sin(box[6])])
            axes = forward, np.array([-forward[2], 0, forward[0]]), np.array([0.0, 1, 0])
            for point in points[np.linalg.norm(points - box[:3], axis=1) < box[3:6].sum()]:
                reach = [abs(axis @ (point - box[:3])) for axis in axes]
                inside += all(a <= b / 2 for a, b in zip(reach, box[3:6], strict=True))
            assert count == inside
        assert labels.num_points.dtype == np.int32 and labels.num_points.max() > 100


def test_right_camera_sees_everything_further_left(both_cameras):
    label = both_cameras / "training" / "label_2" / "000000.txt"
    hidden = "Car 0.00 0 0 0 0 9 9 1.5 1.6 4.0 -90.0 1.7 20.0 0.0\n"
    label.write_text(label.read_text() + hidden)
    left = KittiObject(both_cameras)[0].labels
    right = KittiObject(both_cameras, camera=3)[0].labels
    assert left.class_names == ("pedestrian", "car")
    assert right.class_names == ("pedestrian",)
    for part in ("boxes_3d", "boxes_2d", "visibility", "num_points"):
        assert len(getattr(right, part)) == 1
    # The colour cameras are 0.53 m apart.
    shift = right.boxes_3d[0] - left.boxes_3d[0]
    np.testing.assert_allclose(shift, [-0.54, 0, 0, 0, 0, 0, 0], atol=0.01)
    assert (right.boxes_2d[0, [0, 2]] < left.boxes_2d[0, [0, 2]] - 30).all()
    assert np.array_equal(right.num_points, left.num_points[:1])


def test_raw_right_camera(shared_data, tmp_path):
    folder = shared_data / "kitti_raw_seq" / "2011_09_26"
    (tmp_path / "image_03").mkdir()
    (tmp_path / "image_03" / "data").symlink_to(folder / "image_02" / "data")
    for name in ("velodyne_points", "calib_velo_to_cam.txt"):
        (tmp_path / name).symlink_to(folder / name)
    text = (folder / "calib_cam_to_cam.txt").read_text()
    (tmp_path / "calib_cam_to_cam.txt").write_text(text)
    with pytest.raises(Fault, match="no P_rect_03"):
        KittiRaw(tmp_path, camera=3)
    numbers = " ".join(map(str, P_RECT_03.ravel()))
    (tmp_path / "calib_cam_to_cam.txt").write_text(f"{text}\nP_rect_03: {numbers}\n")
    source = KittiRaw(tmp_path, camera=3)
    left, right = KittiRaw(folder)[0], source[0]
    assert right.camera_name == "image_03"
    expected = np.linalg.inv(P_RECT_03[:, :3]) @ P_RECT_03[:, 3]
    P2 = calibration(folder / "calib_cam_to_cam.txt")["P_rect_02"].reshape(3, 4)
    expected -= np.linalg.inv(P2[:, :3]) @ P2[:, 3]
    shift = (right.companion.T_camera_lidar - left.companion.T_camera_lidar)[:3, 3]
    np.testing.assert_allclose(shift, expected, atol=1e-12)
    assert -0.54 < shift[0] < -0.52  # it stands to the right, so the world moves left
    with pytest.raises(FileNotFoundError, match="image_03"):
        KittiRaw(folder, camera=3)


def test_only_the_color_cameras(shared_data):
    for source in (KittiObject, KittiRaw):
        with pytest.raises(Fault, match="camera 0"):
            source(shared_data / "kitti_object", camera=0)


def test_description(shared_data):
    root = shared_data / "kitti_object"
    assert json.loads(json.dumps(KittiObject(root).describe())) == {
        "source": "kitti",
        "root": str(root),
        "split": "training",
        "camera": "image_02",
        "frames": 2,
    }
    root = shared_data / "kitti_raw_seq" / "2011_09_26"
    assert json.loads(json.dumps(KittiRaw(root).describe())) == {
        "source": "kitti-raw",
        "root": str(root),
        "camera": "image_02",
        "frames": 16,
    }


def test_raw_equals_object_style_calibration(shared_data):
    folder = shared_data / "kitti_raw_seq" / "2011_09_26"
    source = KittiRaw(folder)
    assert len(source) == 16
    calib = calibration(folder / "calib_object_style.txt")
    frame = source[3]
    P2 = calib["P2"].reshape(3, 4)
    expected = np.eye(4)
    expected[:3] = calib["R0_rect"].reshape(3, 3) @ calib["Tr_velo_to_cam"].reshape(3, 4)
    expected[:3, 3] += np.linalg.inv(P2[:, :3]) @ P2[:, 3]
    np.testing.assert_allclose(frame.companion.T_camera_lidar, expected, atol=1e-12)
    np.testing.assert_allclose(frame.camera.K, P2[:, :3])
    bgr = cv2.imread(str(folder / "image_02" / "data" / "0000000003.png"))
    assert np.array_equal(frame.image, bgr[:, :, ::-1])
    raw = np.fromfile(folder / "velodyne_points" / "data" / "0000000003.bin", np.float32)
    assert np.array_equal(frame.companion.points.ravel(), raw)
    assert frame.stamp_ns == frame.companion.stamp_ns == source[0].stamp_ns + 300_000_000
    assert source[-1].stamp_ns == source[15].stamp_ns


def test_raw_uses_timestamps_where_present(shared_data, tmp_path):
    folder = shared_data / "kitti_raw_seq" / "2011_09_26"
    drive = tmp_path / "drive"
    for sensor in ("image_02", "velodyne_points"):
        (drive / sensor).mkdir(parents=True)
        (drive / sensor / "data").symlink_to(folder / sensor / "data")
        lines = [f"2011-09-26 13:02:{25 + i:02d}.964389445" for i in range(16)]
        (drive / sensor / "timestamps.txt").write_text("\n".join(lines) + "\n")
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        (tmp_path / name).symlink_to(folder / name)  # in the parent, as KITTI ships it
    assert KittiRaw(drive)[2].stamp_ns == 1317042147_964389445
    (drive / "image_02" / "timestamps.txt").write_text("2011-09-26 13:02:25.0\n")
    with pytest.raises(Fault, match="timestamps"):
        KittiRaw(drive)


def test_source_survives_pickling(shared_data):
    source = pickle.loads(pickle.dumps(KittiObject(shared_data / "kitti_object")))
    assert len(source) == 2
    with pytest.raises(IndexError):
        source[2]


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"image_2.*expected"):
        KittiObject(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"image_02.*expected"):
        KittiRaw(tmp_path)
    for folder in ("image_2", "velodyne", "calib"):
        (tmp_path / "training" / folder).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no \.png or \.jpg"):
        KittiObject(tmp_path)


def test_damaged_parts_are_faults(tmp_path):
    training = tmp_path / "training"
    for folder in ("image_2", "velodyne", "calib", "label_2"):
        (training / folder).mkdir(parents=True)
    cv2.imwrite(str(training / "image_2" / "000000.png"), np.zeros((4, 6, 3), np.uint8))
    (training / "velodyne" / "000000.bin").write_bytes(bytes(15))
    (training / "label_2" / "000000.txt").touch()
    source = KittiObject(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"calib.000000\.txt"):
        source[0]
    calib = training / "calib" / "000000.txt"
    calib.write_text("P2: 1 2 3\n")
    with pytest.raises(Fault, match="P2 must hold 12"):
        source[0]
    calib.write_text(
        "P2: 7 0 3 0 0 7 2 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    )
    with pytest.raises(Fault, match="15 bytes"):
        source[0]
    (training / "velodyne" / "000000.bin").write_bytes(bytes(16))
    (training / "label_2" / "000000.txt").write_text("Car 0 0 0 1 2\n")
    with pytest.raises(Fault, match=r"000000\.txt:1"):
        source[0]
    (training / "label_2" / "000000.txt").write_text("")
    assert source[0].labels.boxes_3d.shape == (0, 7)
    (training / "image_2" / "000000.png").write_bytes(b"not a png")
    with pytest.raises(Fault, match=r"000000\.png"):
        source[0]


def test_lost_sweeps_and_empty_times_give_camera_only_frames(shared_data, tmp_path, caplog):
    folder = shared_data / "kitti_raw_seq" / "2011_09_26"
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "image_02").mkdir()
    (tmp_path / "image_02" / "data").symlink_to(folder / "image_02" / "data")
    data = tmp_path / "velodyne_points" / "data"
    data.mkdir(parents=True)
    for path in (folder / "velodyne_points" / "data").glob("*.bin"):
        (data / path.name).symlink_to(path)
    for number in (0, 7):  # never recorded; an aborted download
        (data / f"{number:010d}.bin").unlink()
    (data / "0000000007.bin").touch()
    times = [f"2011-09-26 13:04:{i:02d}.250000000" for i in range(16)]
    (tmp_path / "image_02" / "timestamps.txt").write_text("\n".join(times) + "\n")
    times[0] = times[7] = ""
    times[9] = "   "  # the sweep is there, its time is not
    (tmp_path / "velodyne_points" / "timestamps.txt").write_text("\n".join(times))

    with caplog.at_level("WARNING"):
        source = KittiRaw(tmp_path)

    assert "2 of 16 images, the first 0000000000, have no sweep" in caplog.text
    assert "1 sweeps have no time" in caplog.text
    assert source.describe()["without_sweep"] == 3
    frames = list(source)
    assert [i for i, frame in enumerate(frames) if frame.companion is None] == [0, 7, 9]
    assert all(frame.image is not None for frame in frames)
    assert frames[7].stamp_ns - frames[6].stamp_ns == 1_000_000_000
    (tmp_path / "image_02" / "timestamps.txt").write_text("\n".join(times))
    with pytest.raises(Fault, match=r"image_02.timestamps\.txt has no time for image 0000000000"):
        KittiRaw(tmp_path)
    for path in data.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.bin of any of the 16"):
        KittiRaw(tmp_path)


def test_partly_labelled_frames_without_a_file_are_unlabelled(shared_data, tmp_path, caplog):
    for part in ("image_2", "velodyne", "calib", "label_2"):
        (tmp_path / "training" / part).mkdir(parents=True)
        for path in (shared_data / "kitti_object" / "training" / part).iterdir():
            (tmp_path / "training" / part / path.name).symlink_to(path)
    (tmp_path / "training" / "label_2" / "000114.txt").unlink()
    (tmp_path / "training" / "velodyne" / "000000.bin").unlink()
    with caplog.at_level("WARNING"):
        source = KittiObject(tmp_path)
    assert "1 of 2 images, the first 000114, have no label file" in caplog.text
    counts = source.describe()
    assert (counts["without_sweep"], counts["without_labels"]) == (1, 1)
    labelled, unlabelled = source
    assert labelled.labels.class_names == ("pedestrian",) and labelled.companion is None
    assert labelled.labels.num_points is None
    assert unlabelled.labels is None and unlabelled.companion is not None


def test_jpeg_images_and_upper_case_suffixes_in_kittis_format(shared_data, tmp_path):
    for part in ("image_2", "velodyne", "calib", "label_2"):
        (tmp_path / "training" / part).mkdir(parents=True)
        for path in (shared_data / "kitti_object" / "training" / part).iterdir():
            if part != "image_2":
                (tmp_path / "training" / part / path.name).symlink_to(path)
    official = KittiObject(shared_data / "kitti_object")
    images = tmp_path / "training" / "image_2"
    for name, suffix in zip(official.names, (".jpg", ".JPEG"), strict=True):
        image = official[official.names.index(name)].image
        cv2.imwrite(str(images / f"{name}{suffix}"), image[..., ::-1])
    for one, other in zip(KittiObject(tmp_path), official, strict=True):
        assert one.image.shape == other.image.shape and one.labels.class_names
        assert one.labels.class_names == other.labels.class_names
        np.testing.assert_array_equal(one.companion.points, other.companion.points)
