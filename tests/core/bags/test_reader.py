"""Bags read: whole, bare, merged, and those that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.faults import Fault

TYPES = get_typestore(Stores.ROS2_KILTED)


def test_topics_and_latching(kitti_bag):
    with BagReader(kitti_bag.path) as reader:
        assert [(t.name, t.type, t.count, t.frame_id) for t in reader.topics] == [
            ("/camera/camera_info", "sensor_msgs/msg/CameraInfo", 4, "camera_optical"),
            ("/camera/image_raw", "sensor_msgs/msg/Image", 4, "camera_optical"),
            ("/lidar/points", "sensor_msgs/msg/PointCloud2", 4, "lidar"),
            ("/tf_static", "tf2_msgs/msg/TFMessage", 1, ""),
        ]
        assert reader.latched("/tf_static") and not reader.latched("/lidar/points")
        assert find_topics(reader) == BagTopics(
            "/camera/image_raw", "/camera/camera_info", "/lidar/points", None, None
        )
        assert (reader.start_ns, reader.end_ns) == (1_000_000_000, 1_300_000_000)


def test_a_bare_file_reads_as_its_folder(kitti_bag):
    file = next(f for f in kitti_bag.path.iterdir() if f.suffix in (".mcap", ".db3"))
    with BagReader(kitti_bag.path) as folder, BagReader(file) as bare:
        assert bare.topics == folder.topics
        assert bare.latched("/tf_static")
        assert list(bare.raw_messages()) == list(folder.raw_messages())


def test_a_folder_without_metadata_still_reads(kitti_bag, tmp_path):
    for file in kitti_bag.path.iterdir():
        if file.name != "metadata.yaml":
            (tmp_path / file.name).symlink_to(file)
    with BagReader(tmp_path) as reader:
        assert sum(1 for _ in reader.raw_messages()) == 13


def test_arrays_are_views_of_what_was_read(kitti_bag):
    with BagReader(kitti_bag.path) as reader:
        raw = next(reader.raw_messages(["/camera/image_raw"]))
        assert type(raw.data) is bytes  # what rclpy publishes
        msg = reader.deserialize(raw.data, raw.type)
    assert np.shares_memory(msg.data, np.frombuffer(raw.data, np.uint8))


def test_several_bags_merge_by_time(small_bag, tmp_path):
    late = tmp_path / "late"
    with Writer(late, version=8) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=TYPES)
        message = TYPES.types["std_msgs/msg/String"](data="between")
        with BagReader(small_bag) as reader:
            middle = (reader.start_ns + reader.end_ns) // 2
        writer.write(text, middle, TYPES.serialize_cdr(message, "std_msgs/msg/String"))
    with BagReader([late, small_bag]) as reader:
        stamps = [message.stamp_ns for message in reader.messages()]
        assert stamps == sorted(stamps) and middle in stamps
        assert len(stamps) == sum(topic.count for topic in reader.topics)


@pytest.mark.fault(19)
def test_nebula_bag_of_custom_types_opens_and_has_no_camera(shared_data):
    path = shared_data / "nebula_rosbag2" / "vlp16" / "1673400471837873222"
    with BagReader(path) as reader:
        (topic,) = reader.topics
        assert (topic.name, topic.count, topic.frame_id) == ("/velodyne_packets", 4, "")
        assert sum(1 for _ in reader.raw_messages()) == 4
        with pytest.raises(Fault) as caught:
            find_topics(reader)
        assert caught.value.reason == "no_camera" and "/velodyne_packets" in str(caught.value)
        with pytest.raises(Fault, match="VelodyneScan") as caught:
            next(reader.messages())
        assert caught.value.reason == "unknown_type"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_truncated_file_is_a_fault(frames, tmp_path, storage):
    write_bag(frames[:3], tmp_path / "bag", storage)
    file = next(f for f in (tmp_path / "bag").iterdir() if f.suffix in (".mcap", ".db3"))
    whole = file.read_bytes()
    for share in (0.0, 0.001, 0.3, 0.7, 0.99):
        file.write_bytes(whole[: int(len(whole) * share)])
        for path in (file, tmp_path / "bag"):
            with pytest.raises(Fault, match="bag") as caught, BagReader(path) as reader:
                list(reader.messages())
            assert caught.value.reason == "damaged_bag" and str(path) in str(caught.value)
            cure = {"mcap": "mcap recover", "sqlite3": ".recover"}[storage]
            assert (cure if share else "is empty") in str(caught.value)


@pytest.mark.fault(19)
def test_damaged_message_is_a_fault_and_the_bag_goes_on(tmp_path):
    kind = "sensor_msgs/msg/Image"
    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/camera/image_raw", kind, typestore=TYPES)
        for i in range(3):
            writer.write(connection, 10 + i, b"\x00\x01\x00\x00" + bytes(7))
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics[0].frame_id == ""
        for raw in reader.raw_messages():
            with pytest.raises(Fault) as caught:
                reader.deserialize(raw.data, raw.type)
            assert caught.value.reason == "bad_message"


def test_paths_that_are_no_bags(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bag at"):
        BagReader(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no \.mcap, \.db3 or \.bag file"):
        BagReader(tmp_path)
    ros1 = tmp_path / "old.bag"
    ros1.write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(Fault, match="rosbag reindex") as caught:
        BagReader(ros1)
    assert caught.value.reason == "damaged_bag"
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Fault, match="neither a bag folder"):
        BagReader(tmp_path / "notes.txt")
