"""Bags written, and read back with what was put in."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.helpers.small_frames import small_frames

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.geometry.se3 import inverse, make_T, rotation_from_quaternion, transform

TYPES = get_typestore(Stores.ROS2_KILTED)


def pixels(msg) -> np.ndarray:
    return msg.data.reshape(msg.height, msg.width, -1)


def cloud(msg) -> np.ndarray:
    return msg.data.view(np.float32).reshape(-1, msg.point_step // 4)


def stamp_ns(msg) -> int:
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


def static_transforms(reader: BagReader) -> dict[str, np.ndarray]:
    found = {}
    for t in reader.first("/tf_static").transforms:
        q, p = t.transform.rotation, t.transform.translation
        R = rotation_from_quaternion(q.w, q.x, q.y, q.z)
        found[t.child_frame_id] = make_T(R, np.array([p.x, p.y, p.z]))
    return found


def test_kitti_round_trip_is_exact(kitti_bag):
    with BagReader(kitti_bag.path) as reader:
        images = list(reader.messages(["/camera/image_raw"]))
        scans = list(reader.messages(["/lidar/points"]))
        infos = list(reader.messages(["/camera/camera_info"]))
        T = static_transforms(reader)
    assert len(images) == len(scans) == len(infos) == 4
    for i, (image, scan, info) in enumerate(zip(images, scans, infos, strict=True)):
        frame = kitti_bag.source[i]
        assert np.array_equal(pixels(image.msg), frame.image)
        assert image.msg.encoding == "rgb8" and image.msg.step == 3 * image.msg.width
        assert np.array_equal(cloud(scan.msg), frame.companion.points)
        assert [f.name for f in scan.msg.fields] == ["x", "y", "z", "intensity"]
        assert image.stamp_ns == stamp_ns(image.msg) == stamp_ns(info.msg) == frame.stamp_ns
        assert scan.stamp_ns == stamp_ns(scan.msg) == frame.companion.stamp_ns
        assert np.array_equal(info.msg.k.reshape(3, 3), frame.camera.K)
        assert (info.msg.width, info.msg.height) == (frame.camera.width, frame.camera.height)
        assert info.msg.header.frame_id == image.msg.header.frame_id == "camera_optical"
        T_camera_lidar = inverse(T["camera_optical"]) @ T[scan.msg.header.frame_id]
        np.testing.assert_allclose(T_camera_lidar, frame.companion.T_camera_lidar, atol=1e-6)


def test_jpeg_is_close_to_the_image(shared_data, tmp_path):
    write_bag(KittiObject(shared_data / "kitti_object"), tmp_path / "bag", jpeg=True)
    with BagReader(tmp_path / "bag") as reader:
        assert find_topics(reader).image == "/camera/image_raw/compressed"
        message = reader.first("/camera/image_raw/compressed")
    decoded = cv2.imdecode(message.data, cv2.IMREAD_COLOR_RGB)
    frame = KittiObject(shared_data / "kitti_object")[0]
    red_and_blue = frame.image[..., [0, 2]].astype(int)
    error = np.abs(decoded[..., [0, 2]] - red_and_blue).mean()
    assert error < 7  # noisy colours at half resolution
    assert error < 0.7 * np.abs(decoded[..., [2, 0]] - red_and_blue).mean()


def test_ground_truth_boxes_survive_as_poses(small_bag):
    frame = small_frames(1)[0]
    with BagReader(small_bag) as reader:
        detections = reader.first("/ground_truth/detections_3d").detections
    assert len(detections) == len(frame.labels.boxes_3d) > 0
    names = tuple(d.results[0].hypothesis.class_id for d in detections)
    assert names == frame.labels.class_names
    signs = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (-1, 1)]) / 2
    corners = box_corners(frame.labels.boxes_3d.astype(np.float64))
    for detection, expected in zip(detections, corners, strict=True):
        p, q, s = (
            detection.bbox.center.position,
            detection.bbox.center.orientation,
            detection.bbox.size,
        )
        R = rotation_from_quaternion(q.w, q.x, q.y, q.z)
        local = signs * [s.x, s.y, s.z]
        np.testing.assert_allclose(local @ R.T + [p.x, p.y, p.z], expected, atol=1e-6)


def test_moving_extrinsics_are_folded_into_the_points(shared_data, tmp_path):
    """KITTI's two frames come from two rigs; the one static transform must serve both."""
    source = KittiObject(shared_data / "kitti_object")
    write_bag(source, tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        T = static_transforms(reader)
        scans = [cloud(message.msg) for message in reader.messages(["/lidar/points"])]
    T_camera_lidar = inverse(T["camera_optical"]) @ T["lidar"]
    for frame, scan in zip(source, scans, strict=True):
        expected = transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3])
        np.testing.assert_allclose(transform(T_camera_lidar, scan[:, :3]), expected, atol=1e-4)
        assert np.array_equal(scan[:, 3], frame.companion.points[:, 3])


def test_nuscenes_bag_keeps_both_stamps(shared_data, tmp_path):
    root = shared_data / "nuscenes_mini_tables"
    source = NuScenes(root, "CAM_BACK")
    write_bag(source, tmp_path / "bag")
    frame = source[0]
    with BagReader(tmp_path / "bag") as reader:
        assert stamp_ns(reader.first("/camera/image_raw")) == frame.stamp_ns
        assert stamp_ns(reader.first("/lidar/points")) == frame.companion.stamp_ns
        assert np.array_equal(cloud(reader.first("/lidar/points")), frame.companion.points)


@pytest.mark.parametrize(("folder", "pairs"), [("kaist_rgbt", 5), ("llvip_rgbt", 6)])
def test_thermal_pairs(shared_data, tmp_path, folder, pairs):
    source = RgbThermalPairs(shared_data / folder)
    assert len(source) == pairs
    write_bag(source, tmp_path / "bag", limit=2)
    with BagReader(tmp_path / "bag") as reader:
        assert find_topics(reader) == BagTopics(
            "/camera/image_raw",
            "/camera/camera_info",
            None,
            "/thermal/image_raw",
            "/thermal/camera_info",
        )
        message = reader.first("/thermal/image_raw")
    assert message.encoding == "mono8"
    assert np.array_equal(pixels(message)[..., 0], source[0].companion.image)
    assert source[0].companion.image.shape == source[0].image.shape[:2]


def test_existing_bag_is_left_alone(small_bag):
    before = {file.name: file.stat().st_mtime_ns for file in small_bag.iterdir()}
    with pytest.raises(FileExistsError, match="exists already"):
        write_bag(small_frames(1), small_bag)
    assert before == {file.name: file.stat().st_mtime_ns for file in small_bag.iterdir()}


def test_a_bag_appears_when_all_of_it_is_written(tmp_path):
    """Also where its writer was killed nobody takes a part of it for the whole."""
    bag = tmp_path / "bags" / "bag"

    def watched():
        for frame in small_frames(3):
            yield frame
            assert not bag.exists()

    write_bag(watched(), bag)
    assert {path.name for path in bag.parent.rglob("*")} == {"bag", "bag.mcap", "metadata.yaml"}


def test_failed_writing_leaves_nothing(tmp_path):
    def broken():
        yield from small_frames(1)
        raise Fault("bad_image", "frame 1")

    with pytest.raises(Fault, match="frame 1"):
        write_bag(broken(), tmp_path / "bag")
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_several_frames_is_written_once(tmp_path):
    """A camera at 30 Hz, a LiDAR at 10 Hz; the source turns each sweep to each image's time, so
    the bag keeps the turn of the frame nearest to the sweep."""
    frames = small_frames(8, step_ns=33_000_000)
    sweeps = [0, 0, 0, 1, 1, 1, None, 2]  # one image without
    ahead_m = [0.3, 0.0, 0.1, -0.2, 0.0, 0.4, 0.0, 0.5]
    stamps_ns = [frames[i].stamp_ns + 1_000_000 for i in (1, 4, 7)]
    source = []
    for frame, sweep, ahead in zip(frames, sweeps, ahead_m, strict=True):
        companion = None
        if sweep is not None:
            T = make_T(np.eye(3), np.array([0, 0, ahead])) @ frame.companion.T_camera_lidar
            points = frames[sweep].companion.points
            companion = LidarScan(points, T, stamps_ns[sweep])
        source.append(dataclasses.replace(frame, companion=companion))
    write_bag(source, tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        scans = [message.msg for message in reader.messages(["/lidar/points"])]
        T = static_transforms(reader)
        assert [t.count for t in reader.topics if t.name == "/tf_static"] == [1]
        assert sum(t.count for t in reader.topics if t.name == "/camera/image_raw") == 8
    assert [stamp_ns(scan) for scan in scans] == stamps_ns
    T_camera_lidar = inverse(T["camera_optical"]) @ T["lidar"]
    np.testing.assert_allclose(T_camera_lidar, source[1].companion.T_camera_lidar, atol=1e-9)
    for at, scan in zip((1, 4, 7), scans, strict=True):
        nearest = source[at].companion
        np.testing.assert_allclose(
            transform(T_camera_lidar, cloud(scan)[:, :3]),
            transform(nearest.T_camera_lidar, nearest.points[:, :3]),
            atol=1e-5,
        )
    for at in (0, 1):  # the same transform: the very points
        assert np.array_equal(cloud(scans[at]), frames[at].companion.points)


def test_a_companion_that_comes_late_has_its_transform(tmp_path):
    frames = small_frames(3)
    frames[0] = dataclasses.replace(frames[0], companion=None)
    write_bag(frames, tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        sent = [
            [t.child_frame_id for t in m.msg.transforms] for m in reader.messages(["/tf_static"])
        ]
    assert sent == [["camera_optical"], ["lidar"]]


def test_label_map_and_depth_are_images_of_the_camera(small_bag):
    labels = small_frames(1)[0].labels
    with BagReader(small_bag) as reader:
        ids, depth = (reader.first(f"/ground_truth/{name}") for name in ("labels", "depth"))
    assert (ids.encoding, depth.encoding) == ("mono8", "32FC1")
    assert ids.header.frame_id == depth.header.frame_id == "camera_optical"
    assert np.array_equal(pixels(ids)[..., 0], labels.label_map)
    assert depth.data.tobytes() == labels.depth_m.tobytes()


def test_frames_of_two_cameras_are_refused(tmp_path):
    front, rear = small_frames(2)
    with pytest.raises(Fault, match="front and of rear") as caught:
        write_bag([front, dataclasses.replace(rear, camera_name="rear")], tmp_path / "bag")
    assert caught.value.reason == "several_cameras" and not (tmp_path / "bag").exists()


def test_without_rosbags_the_line_that_installs_it_is_said():
    code = (
        "import sys; sys.modules['rosbags'] = None\n"
        "import lemumo_core.bags.reader as r, lemumo_core.bags.writer as w\n"
        "for use in (lambda: r.BagReader('x'), lambda: w.write_bag([], 'x')):\n"
        "    try: use()\n"
        '    except ImportError as error: assert "pip install \'mcap" in str(error)\n'
        "    else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tf_static_is_offered_transient_local(small_bag):
    """What players look at is the metadata, so ask the library for it."""
    from rosbags.rosbag2 import Reader

    with Reader(small_bag) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    assert offered.pop("/tf_static") == QosDurability.TRANSIENT_LOCAL
    assert set(offered.values()) == {QosDurability.VOLATILE}
    assert StoragePlugin.MCAP.name.lower() in (small_bag / "metadata.yaml").read_text()


def test_a_synthetic_drive_at_thirty_hertz(tmp_path):
    """Images at 30 Hz, sweeps at 10 Hz written once, all the truth, and read back as it was."""
    street = SyntheticStreet(0, 7, 160, 96, rate_hz=30.0, frames_per_drive=7)
    write_bag(street, tmp_path / "bag")
    frames = [street[k] for k in range(7)]
    with BagReader(tmp_path / "bag") as reader:
        stamps = [message.stamp_ns for message in reader.messages(["/lidar/points"])]
    assert stamps == sorted({frame.companion.stamp_ns for frame in frames})
    assert len(stamps) in (3, 4)
    bags = Bags(tmp_path / "bag")
    assert len(bags) == 7
    for read, frame in zip((bags[k] for k in range(7)), frames, strict=True):
        assert read.stamp_ns == frame.stamp_ns
        assert read.companion.stamp_ns == frame.companion.stamp_ns
        assert np.array_equal(read.image, frame.image)
        assert np.array_equal(read.labels.label_map, frame.labels.label_map)
        assert np.array_equal(read.labels.depth_m, frame.labels.depth_m, equal_nan=True)
        assert read.labels.class_names == frame.labels.class_names
        np.testing.assert_allclose(read.labels.boxes_3d, frame.labels.boxes_3d, atol=1e-4)
        # The image nearest to a sweep sees its points where they were; for the others the bag,
        # which knows no ego motion, is off by the way driven since.
        ours, theirs = (
            transform(f.companion.T_camera_lidar, f.companion.points[:, :3]) for f in (read, frame)
        )
        off = abs(frame.stamp_ns - frame.companion.stamp_ns)
        sharing = [f for f in frames if f.companion.stamp_ns == frame.companion.stamp_ns]
        if off == min(abs(f.stamp_ns - f.companion.stamp_ns) for f in sharing):
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
        else:
            assert 0.1 < np.linalg.norm(ours - theirs, axis=1).max() < 2.0
