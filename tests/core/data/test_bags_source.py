"""Bags as a source: against the Frames they were made from, and against the node's callbacks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.helpers.bag_tools import FRAMES, assert_equal_frames, rewrite, without

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan, ThermalImage
from lemumo_core.geometry.se3 import inverse
from lemumo_core.preprocess import InputSpec, preprocess
from lemumo_core.replay.image_events import image_events
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_kitti_comes_back_exactly(shared_data, tmp_path, storage):
    drive = shared_data / "kitti_raw_seq" / "2011_09_26"
    write_bag(KittiRaw(drive), tmp_path / "bag", storage, limit=4)
    source, expected = Bags(tmp_path / "bag"), KittiRaw(drive)
    assert len(source) == 4
    for i in range(4):
        frame = source[i]
        # KITTI's own matrix is a rotation to 2e-8 only, and what a quaternion holds is one exactly.
        assert_equal_frames(frame, expected[i], atol=1e-7)
        assert frame.labels is None and frame.camera_name == "camera"
        assert frame.image.flags.writeable and frame.image.flags.c_contiguous
        assert frame.companion.points.dtype == np.float32


def test_ground_truth_comes_back_bit_for_bit(small_bag, frames):
    for frame, expected in zip(Bags(small_bag), frames, strict=True):
        ours, theirs = frame.labels, expected.labels
        for name in ("label_map", "depth_m", "boxes_2d"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        assert ours.class_names == theirs.class_names
        np.testing.assert_array_equal(ours.boxes_3d[:, :6], theirs.boxes_3d[:, :6])
        yaw, expected_yaw = ours.boxes_3d[:, 6], theirs.boxes_3d[:, 6]  # came through quaternions
        np.testing.assert_allclose(yaw, expected_yaw, rtol=0, atol=1e-6)
        assert ours.boxes_3d.dtype == np.float32
    without_any = Bags(small_bag, detections="", labels="", depth="")
    assert all(frame.labels is None for frame in without_any)


def test_names_of_label_ids_come_back(frames, tmp_path):
    names = ("", "floor", "rack")
    ids = np.where(frames[0].labels.label_map == 255, 255, 2).astype(np.uint8)
    named = [replace(f, labels=replace(f.labels, label_map=ids, label_names=names)) for f in frames]
    write_bag(named, tmp_path / "bag")
    for frame in Bags(tmp_path / "bag"):
        assert frame.labels.label_names == names
        np.testing.assert_array_equal(frame.labels.label_map, ids)
    named[1] = replace(named[1], labels=replace(named[1].labels, label_names=("floor",)))
    with pytest.raises(Fault, match="label ids of the source change their names"):
        write_bag(named, tmp_path / "two")


def test_kitti_boxes_come_back(shared_data, tmp_path):
    expected = KittiObject(shared_data / "kitti_object")
    write_bag(expected, tmp_path / "bag")
    source = Bags(tmp_path / "bag")
    assert len(source) == len(expected) > 0
    for frame, other in zip(source, expected, strict=True):
        assert frame.camera == other.camera
        np.testing.assert_array_equal(frame.image, other.image)
        ours, theirs = frame.labels.boxes_3d, other.labels.boxes_3d
        assert len(theirs) and frame.labels.class_names == other.labels.class_names
        np.testing.assert_array_equal(ours[:, :6], theirs[:, :6])
        np.testing.assert_allclose(ours[:, 6], theirs[:, 6], rtol=0, atol=1e-6)


def test_jpeg(frames, tmp_path):
    write_bag(frames, tmp_path / "bag", jpeg=True)
    frame = Bags(tmp_path / "bag")[2]
    bgr = cv2.cvtColor(frames[2].image, cv2.COLOR_RGB2BGR)
    coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    expected = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(frame.image, expected)
    assert frame.stamp_ns == frames[2].stamp_ns


def test_thermal_pairs(shared_data, tmp_path):
    write_bag(RgbThermalPairs(shared_data / "kaist_rgbt"), tmp_path / "bag", limit=2)
    source = Bags(tmp_path / "bag")
    visible = sorted((shared_data / "kaist_rgbt").glob("*_visible.*"))[1]
    frame = source[1]
    assert isinstance(frame.companion, ThermalImage)
    np.testing.assert_array_equal(frame.image, cv2.imread(str(visible))[..., ::-1])
    infrared = cv2.imread(str(visible).replace("_visible", "_lwir"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(frame.companion.image, infrared)
    assert frame.companion.camera.width == infrared.shape[1]
    np.testing.assert_allclose(frame.companion.T_camera_thermal, np.eye(4), atol=1e-9)
    assert frame.companion.stamp_ns == frame.stamp_ns
    assert source.describe()["bags"][0]["companion"] == "thermal"


def test_depth_that_is_not_positive_is_unknown_and_labels_may_be_sparse(
    small_bag, frames, tmp_path
):
    def change(raw, message):
        if raw.topic.startswith("/ground_truth/") and raw.stamp_ns != frames[3].stamp_ns:
            return None
        if raw.topic == "/ground_truth/depth":
            depth_m = message.data.view(np.float32).copy()
            depth_m[-3:] = 0, -1, np.inf
            message.data = depth_m.view(np.uint8)
        return raw.stamp_ns, message

    source = Bags(rewrite(small_bag, tmp_path / "bag", change))
    assert [i for i in range(FRAMES) if source[i].labels is not None] == [3]
    expected = frames[3].labels.depth_m.copy()
    expected[-1, -3:] = np.nan
    np.testing.assert_array_equal(source[3].labels.depth_m, expected)
    assert source.describe()["bags"][0]["matched"]["labels"] == 1


def test_bags_made_outside_of_lemumo_need_no_ground_truth_definitions(shared_data):
    """A real recording whose only topic is of a type nobody defines."""
    with pytest.raises(Fault, match=r"nebula.*no colour camera") as caught:
        Bags(shared_data / "nebula_rosbag2" / "vlp16")
    assert caught.value.reason == "no_camera"


@pytest.mark.parametrize("kind", ["lidar", "thermal"])
def test_network_inputs_equal_those_of_the_node(kind, small_bag, shared_data, tmp_path):
    path = small_bag
    if kind == "thermal":
        path = tmp_path / "bag"
        write_bag(RgbThermalPairs(shared_data / "kaist_rgbt"), path, limit=2)
    spec = InputSpec(64, 128, kind, 2)
    health = Health()
    node = CameraInput("camera", kind, CameraOptions(50_000_000, 0), health, lambda: 0)
    with BagReader(path) as reader:
        topics = find_topics(reader)
        callbacks = {
            topics.camera_info: node.on_camera_info,
            topics.thermal_info: node.on_companion_info,
            "/tf_static": node.on_transforms,
            topics.points or topics.thermal: node.on_companion,
            topics.image: node.on_image,
        }
        of_node = []
        for message in reader.messages(name for name in callbacks if name):
            callbacks[message.topic](message.msg)
        of_node = [node.to_frame(pair) for pair in node.take(flush=True)]
    source = Bags(path)
    assert len(of_node) == len(source) > 1
    for expected, frame in zip(of_node, source, strict=True):
        theirs, ours = preprocess(expected, spec), preprocess(frame, spec)
        for got, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert ours.companion.any() and ours.present.all()
        assert frame.stamp_ns == expected.stamp_ns


@pytest.mark.parametrize("cut", [3, 11, 60, 5000])
def test_damaged_image_is_named_and_the_others_go_on(small_bag, frames, tmp_path, cut):
    def damage(raw, message):
        broken = raw.topic == "/camera/image_raw" and raw.stamp_ns == frames[2].stamp_ns
        return raw.stamp_ns, raw.data[:cut] if broken else raw.data

    source = Bags(rewrite(small_bag, tmp_path / "bag", damage))
    assert len(source) == FRAMES
    with pytest.raises(Fault) as caught:
        source[2]
    assert str(tmp_path / "bag") in str(caught.value)
    assert str(frames[2].stamp_ns) in str(caught.value)
    assert_equal_frames(source[3], frames[3], atol=1e-9)


def test_bags_that_lack_something(small_bag, tmp_path):
    cases = [
        (("/camera/image_raw",), {}, "no_camera"),
        (("/camera/camera_info",), {}, "no_camera_info"),
        (("/tf_static",), {}, "missing_transform"),
        ((), {"companion": "thermal"}, "no_companion"),
        ((), {"points": "/nope"}, "unknown_topic"),
        ((), {"labels": "/nope"}, "unknown_topic"),
    ]
    for i, (left_out, options, reason) in enumerate(cases):
        path = rewrite(small_bag, tmp_path / str(i), without(*left_out))
        with pytest.raises(Fault) as caught:
            Bags(path, **options)
        assert caught.value.reason == reason and str(path) in str(caught.value)
    camera_only = Bags(rewrite(small_bag, tmp_path / "camera", without("/lidar/points")))
    assert camera_only[0].companion is None and camera_only.bags[0].index.companion is None
    assert Bags(small_bag, points="")[0].companion is None


def test_both_companions_need_a_choice(small_bag, frames, tmp_path):
    build = RosbagsBuilder()
    stamp_ns = frames[0].stamp_ns
    header = build.header(stamp_ns, "lidar")
    warm = tmp_path / "warm"
    with Writer(warm, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in [
            ("/thermal/image_raw", build.image(frames[0].image[..., 0], "mono8", header)),
            ("/thermal/camera_info", build.camera_info(frames[0].camera, header)),
        ]:
            connection = writer.add_connection(
                topic, message.__msgtype__, typestore=build.typestore
            )
            writer.write(connection, stamp_ns, build.serialize(message))
    folder = tmp_path / "both"
    folder.mkdir()
    shutil.copy(next(small_bag.glob("*.mcap")), folder / "x_0.mcap")
    shutil.copy(next(warm.glob("*.mcap")), folder / "x_1.mcap")
    with pytest.raises(Fault, match="choose companion lidar or thermal"):
        Bags(folder)
    assert isinstance(Bags(folder, companion="lidar")[0].companion, LidarScan)
    thermal = Bags(folder, companion="thermal")
    assert isinstance(thermal[0].companion, ThermalImage) and thermal[1].companion is None
    np.testing.assert_allclose(
        inverse(thermal[0].companion.T_camera_thermal),
        inverse(frames[0].companion.T_camera_lidar),
        atol=1e-9,
    )


def ros1_message(message, store):
    """Copy a message to the type of ROS 1 of its name."""
    values = {}
    for name, _ in store.fielddefs[message.__msgtype__][1]:
        ours = name if hasattr(message, name) else name.lower()
        value = 3 if name == "seq" else getattr(message, ours)
        if isinstance(value, list):
            value = [ros1_message(one, store) for one in value]
        elif hasattr(value, "__msgtype__"):
            value = ros1_message(value, store)
        values[name] = value
    return store.types[message.__msgtype__](**values)


def test_a_ros1_bag_in_a_folder_of_any_name_is_trained_on_and_replayed(small_bag, frames, tmp_path):
    """Frames for training, and those of a replay, are the ones that the bag was written from."""
    store = get_typestore(Stores.ROS1_NOETIC)
    transforms = "geometry_msgs/TransformStamped[] transforms"
    store.register(get_types_from_msg(transforms, "tf2_msgs/msg/TFMessage"))
    folder = tmp_path / "Fahrt 2, Köln 数据"
    folder.mkdir()
    with BagReader(small_bag) as reader, Ros1Writer(folder / "fr\u00fch um 8.bag") as writer:
        connections = {}
        sensors = [t.name for t in reader.topics if not t.name.startswith("/ground_truth")]
        for message in reader.messages(sensors):
            old = ros1_message(message.msg, store)
            kind = old.__msgtype__
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, kind, typestore=store
                )
            data = store.serialize_ros1(old, kind)
            writer.write(connections[message.topic], message.stamp_ns, data)
    (files,) = find_bags(folder)
    events = image_events(files, Settings(model=tmp_path), "lidar")
    for frame, event, expected in zip(Bags(folder), events, frames, strict=True):
        assert_equal_frames(frame, expected, atol=1e-6)
        assert_equal_frames(event.frame, expected, atol=1e-6)


def test_of_a_damaged_bag_the_rest_is_trained_on(small_bag, frames, tmp_path, monkeypatch, caplog):
    """The recovered copy lies beside the cached index, and what was lost is said every time."""
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    bag = shutil.copytree(small_bag, tmp_path / "cut off")
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    for _ in range(2):
        caplog.clear()
        source = Bags(bag)
        assert 2 <= len(source) < FRAMES
        assert "MB are no whole records" in caplog.text
        for i in range(len(source) - 1):  # the scan of the last may be cut off
            assert_equal_frames(source[i], frames[i], atol=1e-9)
        (described,) = source.describe()["bags"]
        assert described["path"] == str(bag) and len(described["lost"]) >= 1


def test_paths_without_bags(tmp_path):
    with pytest.raises(FileNotFoundError, match="empty holds no bag"):
        (tmp_path / "empty" / "deep").mkdir(parents=True)
        Bags(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="missing"):
        Bags(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no bag given"):
        Bags([])
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(Fault, match="rosbag reindex"):
        Bags(tmp_path / "old.bag")
    (tmp_path / "bad.mcap").write_bytes(b"nonsense")
    with pytest.raises(Fault, match=r"bad\.mcap does not begin as an mcap file"):
        Bags(tmp_path / "bad.mcap")
