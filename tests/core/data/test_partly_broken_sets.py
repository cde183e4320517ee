"""Data sets of which a part is broken: it is named, or left out and counted, and never made up."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.data.sources.coco import read_coco
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.nuscenes_shot import Shot
from lemumo_core.data.statistics import empty_views
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera

WIDTH, HEIGHT = 96, 64
P = "90 0 47.5 0 0 90 31.5 0 0 0 1 0"
FORWARD = "0 -1 0 0.1 0 0 -1 -0.2 1 0 0 -0.3"
"""Tr_velo_to_cam of a LiDAR whose x is forward."""
CALIBRATION = {"P2": P, "R0_rect": "1 0 0 0 1 0 0 0 1", "Tr_velo_to_cam": FORWARD}
CAR = "Car 0 0 0 40 20 60 44 1.5 1.6 4 0.2 1 9 0.1"
DAY = "2012-03-04 05:06:07.100000000"


def sweep(columns: int = 4, dtype: type = np.float32) -> bytes:
    rng = np.random.default_rng(0)
    low, high = (5, -3, -1, 0, 0), (40, 3, 1, 1, 30)
    return rng.uniform(low, high, (500, 5))[:, :columns].astype(dtype).tobytes()


def image(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def text(calibration: dict[str, str]) -> bytes:
    return "".join(f"{key}: {numbers}\n" for key, numbers in calibration.items()).encode()


def kitti(root: Path, changes: dict[str, bytes]) -> Path:
    """A set of two frames, some files of the second of which are changed."""
    files = {
        "image_2/NAME.png": image(),
        "velodyne/NAME.bin": sweep(),
        "calib/NAME.txt": text(CALIBRATION),
        "label_2/NAME.txt": f"{CAR}\n".encode(),
    }
    for name in ("000000", "000001"):
        for file, data in files.items():
            path = root / "training" / file.replace("NAME", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            changed = changes.get(file.partition("/")[0], data)
            path.write_bytes(changed if name == "000001" else data)
    return root


@pytest.mark.parametrize(
    ("part", "data", "words"),
    [
        ("calib", text({**CALIBRATION, "P2": P.replace("47.5 0", "47.5 nan")}), "P2 .* not finite"),
        ("calib", text({**CALIBRATION, "Tr_velo_to_cam": "0 " * 12}), "Tr_velo_to_cam .* rotation"),
        ("calib", text({**CALIBRATION, "R0_rect": "2 0 0 0 1 0 0 0 1"}), "R0_rect .* rotation"),
        ("calib", text({**CALIBRATION, "R0_rect": "1 0 0 0 1 0 0 0 -1"}), "R0_rect .* rotation"),
        ("velodyne", sweep(3)[: 480 * 12], "no intensity"),
        ("velodyne", sweep(dtype=np.float64), "no intensity"),
        ("image_2", image(WIDTH // 2, HEIGHT // 2), "outside the 48x32 image: were the images"),
    ],
)
def test_frames_that_would_be_learnt_wrongly_are_left_out(part, data, words, tmp_path, caplog):
    source = KittiObject(kitti(tmp_path / "set", {part: data}))
    assert source[0].labels.class_names == ("car",)
    with pytest.raises(Fault, match=words):
        source[1]
    summary = write_shards(source, tmp_path / "shards", workers=1)
    assert (summary.frames, summary.dropped) == (1, 1)
    assert "frame 1 is left out" in caplog.text


def test_images_of_another_size_than_calibrated_are_warned_of(tmp_path, caplog):
    changes = {"image_2": image(2 * WIDTH, 2 * HEIGHT)}
    source = KittiObject(kitti(tmp_path, changes))
    source[0]
    assert not caplog.text
    source[1]
    assert "principal point (48, 32) is far from the middle of the 192x128 images" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_files_of_windows_are_read(encoding, tmp_path):
    changes = {
        "calib": text(CALIBRATION).decode().replace("\n", "\r\n").encode(encoding),
        "label_2": f"{CAR}\r\n".encode(encoding),
    }
    first, second = KittiObject(kitti(tmp_path, changes))
    assert first.camera == second.camera and second.labels.class_names == ("car",)
    np.testing.assert_array_equal(first.labels.boxes_3d, second.labels.boxes_3d)


def test_files_beside_those_of_the_set(tmp_path):
    training = kitti(tmp_path, {}) / "training"
    for file in ("image_2/._000000.png", "velodyne/._000000.bin", "label_2/._000000.txt"):
        (training / file).write_bytes(b"\0\5\x16\7 of another system")
    gone = training / "velodyne" / "000001.bin"
    gone.unlink()
    gone.symlink_to(tmp_path / "unmounted")
    source = KittiObject(tmp_path)
    assert source.names == ["000000", "000001"] and source[1].companion is None
    (training / "image_2" / "000001.jpg").write_bytes(b"")
    with pytest.raises(Fault, match=r"holds both 000001.jpg and 000001.png"):
        KittiObject(tmp_path)


def test_a_lidar_without_a_return_in_view_is_named_with_the_cause(tmp_path, caplog):
    """Extrinsics between two body frames, as of a LiDAR and a camera's link."""
    body = "1 0 0 0.3 0 1 0 0 0 0 1 0.2"
    calibration = text({**CALIBRATION, "Tr_velo_to_cam": body})
    training = kitti(tmp_path / "set", {"calib": calibration}) / "training"
    mixed = KittiObject(tmp_path / "set")
    assert empty_views(mixed) == ""
    (training / "calib" / "000000.txt").write_bytes(calibration)
    cause = "no lidar return is in view: 500 of 500 returns would be in view if the image's frame"
    assert cause in empty_views(mixed).lower()
    write_shards(mixed, tmp_path / "shards", workers=1)
    assert "frame 0: no LiDAR return is in view" in caplog.text
    assert cause in empty_views(Shards(tmp_path / "shards")).lower()


def raw(root: Path, times: dict[str, list[str]], size: str = f"{WIDTH} {HEIGHT}") -> Path:
    rotation = "0 -1 0 0 0 -1 1 0 0"
    cam = {"S_rect_02": size, "R_rect_00": "1 0 0 0 1 0 0 0 1", "P_rect_02": P}
    root.mkdir()
    (root / "calib_cam_to_cam.txt").write_bytes(text(cam))
    (root / "calib_velo_to_cam.txt").write_bytes(text({"R": rotation, "T": "0.1 -0.2 -0.3"}))
    for sensor, suffix, data in (("image_02", "png", image()), ("velodyne_points", "bin", sweep())):
        (root / sensor / "data").mkdir(parents=True)
        for i in range(2):
            (root / sensor / "data" / f"{i:010d}.{suffix}").write_bytes(data)
        if sensor in times:
            (root / sensor / "timestamps.txt").write_text("\n".join(times[sensor]))
    return root


def test_times_of_drives(tmp_path, caplog):
    later = DAY.replace("05:06", "05:07")
    KittiRaw(raw(tmp_path / "one", {"image_02": [DAY] * 2, "velodyne_points": [DAY] * 2}))
    assert not caplog.text
    KittiRaw(raw(tmp_path / "two", {"image_02": [DAY] * 2, "velodyne_points": [later] * 2}))
    assert "sweeps are stamped +60.000 s from their images" in caplog.text
    with pytest.raises(Fault, match="'1330837567' is no date"):  # and no year
        KittiRaw(raw(tmp_path / "epoch", {"image_02": ["1330837567", "1330837568"]}))


def test_drives_of_resized_images_are_refused(tmp_path):
    assert KittiRaw(raw(tmp_path / "whole", {}))[0].camera.width == WIDTH
    with pytest.raises(Fault, match="is 96x64, its calibration is of 192x128 images"):
        KittiRaw(raw(tmp_path / "resized", {}, "1.92e2 1.28e2"))[0]


def coco(path: Path, boxes: list[dict], images: list[dict] | None = None) -> Path:
    rows = [{"image_id": 5, "category_id": 2, "bbox": [1, 2, 30, 40], **box} for box in boxes]
    images = images or [{"id": 5, "file_name": "a/x.png", "width": 64, "height": 48}]
    table = {"images": images, "annotations": rows, "categories": [{"id": 2, "name": "lorry"}]}
    path.write_text("\ufeff" + json.dumps(table))
    return path


@pytest.mark.parametrize(
    ("boxes", "images", "words"),
    [
        ([{"image_id": "5"}], None, "no box is of an image .* '5', the ids of images e.g. 5"),
        ([{"category_id": 3}], None, "annotation 0: category_id 3 is no id"),
        ([{"bbox": [0.1, 0.2, 0.5, 0.5]}] * 2, None, "in pixels, not in shares"),
        ([{}], [{"id": i, "file_name": f"{i}/x.png"} for i in (5, 6)], "two images named x.png"),
    ],
)
def test_annotations_that_would_be_lost_are_refused(boxes, images, words, tmp_path):
    with pytest.raises(Fault, match=words):
        read_coco(coco(tmp_path / "coco.json", boxes, images), "")


def test_odd_annotations_are_counted(tmp_path, caplog):
    corners = {"bbox": [40, 20, 60, 44]}  # x, y of two corners
    boxes = [{"iscrowd": "0"}, {"iscrowd": "1"}, corners, {"image_id": 77}]
    found = read_coco(coco(tmp_path / "coco.json", boxes), "")["x.png"]
    assert len(found.boxes) == 2 and len(found.crowds) == 1 and found.size == (64, 48)
    assert "1 boxes of images that it does not list" in caplog.text
    assert "1 boxes reach beyond their images" in caplog.text


def shot(**changes) -> Shot:
    row = {"token": "t", "rotation": [1, 0, 0, 0], "translation": [1, 2, 3], **changes}
    K = [[90, 0, 47.5], [0, 90, 31.5], [0, 0, 1]]
    return Shot("t", "x.jpg", 1, (WIDTH, HEIGHT), {**row, "camera_intrinsic": K}, row)


def test_recordings_of_nuscenes(tmp_path):
    assert shot().T_world_sensor[:3, 3].tolist() == [2, 4, 6]
    for change in ({"rotation": [0, 0, 0, 0]}, {"translation": [1, float("nan"), 3]}):
        with pytest.raises(Fault, match="t is no pose"):
            _ = shot(**change).T_world_sensor
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert shot().camera_of(pixels, tmp_path).fx == 90
    with pytest.raises(Fault, match=r"is 48x32, but sample_data .* 96x64 images"):
        shot().camera_of(pixels[::2, ::2], tmp_path)


def test_boxes_without_a_rotation_are_refused():
    camera = Camera(WIDTH, HEIGHT, 90.0, 90.0, 47.5, 31.5)
    poses = np.array([[0, 0, 9, 1, 0, 0, 0], [0, 0, 12, 0, 0, 0, 0]], np.float64)
    boxes = Annotations(poses, np.ones((2, 3)), ("car", "van"), np.zeros(2, int))
    with pytest.raises(Fault, match="1 of 2 boxes are not sound, the first a 'van'"):
        visible_labels(boxes, np.eye(4), camera)
