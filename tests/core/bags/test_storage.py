"""Bags as people really have them: edited, renamed, killed, converted, of several makers."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import sound_files
from lemumo_core.faults import Fault

STORE, OLD = get_typestore(Stores.ROS2_KILTED), get_typestore(Stores.ROS1_NOETIC)
STRING = "std_msgs/msg/String"
COUNT = 7
NEVER = QosTime(9223372036, 854775807)
KILLED = """
import os, sqlite3, sys
old, new, merged = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2]), int(sys.argv[3])
new.isolation_level = None
new.execute("pragma journal_mode=WAL")
new.execute("pragma wal_autocheckpoint=0")
for (sql,) in old.execute("select sql from sqlite_master where sql not null"):
    new.execute(sql)
for (table,) in old.execute("select name from sqlite_master where type='table'").fetchall():
    for n, row in enumerate(old.execute(f"select * from {table}")):
        new.execute(f"insert into {table} values ({','.join('?' * len(row))})", row)
        if table == "messages" and n + 1 == merged:
            new.execute("pragma wal_checkpoint(TRUNCATE)")
os._exit(0)
"""
"""Copies a bag as rosbag2's resilient preset writes it, and dies before the log is merged."""


def texts(prefix: str, storage: str, path: Path, version: int = 8, **compression) -> Path:
    """A bag of two topics of texts, /a latched, /b not."""
    writer = Writer(path, version=version, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(compression["mode"], CompressionFormat.ZSTD)
    with writer:
        connections = []
        for name, durability in (("/a", "TRANSIENT_LOCAL"), ("/b", "VOLATILE")):
            qos = Qos(
                *(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability[durability]),
                *(NEVER, NEVER, QosLiveliness.AUTOMATIC, NEVER, False),
            )
            connections.append(
                writer.add_connection(name, STRING, typestore=STORE, offered_qos_profiles=[qos])
            )
        for i in range(COUNT):
            data = STORE.serialize_cdr(STORE.types[STRING](data=f"{prefix}{i}"), STRING)
            writer.write(connections[i % 2], 100 + i, data)
    return path


def edit(bag: Path, **changes) -> None:
    """Change fields of metadata.yaml; ``qos`` is that of every topic."""
    file = bag / "metadata.yaml"
    about = yaml.safe_load(file.read_text())
    for topic in about["rosbag2_bagfile_information"]["topics_with_message_count"]:
        if "qos" in changes:
            topic["topic_metadata"]["offered_qos_profiles"] = changes["qos"]
    about["rosbag2_bagfile_information"] |= {k: v for k, v in changes.items() if k != "qos"}
    file.write_text(yaml.safe_dump(about, sort_keys=False))


def read(path: Path) -> list[str]:
    with BagReader(path) as reader:
        found = [message.msg.data for message in reader.messages()]
        assert len(found) == sum(topic.count for topic in reader.topics)
    return found


EXPECTED = [f"x{i}" for i in range(COUNT)]


@pytest.mark.parametrize(("storage", "version"), [("mcap", 9), ("sqlite3", 8)])
@pytest.mark.parametrize("qos", ["", "[]", [], "- durability: 0\n  history: 3", None])
def test_edited_qos_hides_no_message(tmp_path, storage, version, qos):
    bag = texts("x", storage, tmp_path / "bag", version)
    edit(bag, qos=qos)
    assert read(bag) == EXPECTED
    with BagReader(bag) as reader:  # as it was recorded
        assert reader.latched("/a") and not reader.latched("/b")


@pytest.mark.parametrize("version", [4, 7, 10, 99])
def test_metadata_of_any_version_is_read(tmp_path, version):
    bag = texts("x", "mcap", tmp_path / "bag")
    edit(bag, version=version, new_field={"of": "a later version"})
    assert read(bag) == EXPECTED


def test_a_renamed_file_and_metadata_that_is_no_yaml(tmp_path):
    bag = texts("x", "sqlite3", tmp_path / "bag")
    (bag / "bag.db3").rename(bag / "drive_of_tuesday.db3")
    assert read(bag) == EXPECTED
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert read(bag) == EXPECTED


def test_fewer_messages_than_were_recorded_are_said(tmp_path):
    bag = texts("x", "sqlite3", tmp_path / "bag")
    assert sound_files([bag], tmp_path)[1] == []
    with sqlite3.connect(bag / "bag.db3") as db:
        db.execute("delete from messages where id > 4")
    files, lost = sound_files([bag], tmp_path)
    assert files == [bag] and lost == [
        "bag: 3 of 7 recorded messages are missing: its files hold 4"
    ]


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_compressed_bags(tmp_path, storage, mode):
    bag = texts("x", storage, tmp_path / "bag", mode=mode)
    assert read(bag) == EXPECTED
    edit(bag, compression_format="lz4")
    with pytest.raises(Fault, match="'lz4', which is not read"):
        read(bag)


@pytest.mark.parametrize("merged", [0, 2])
def test_the_log_of_a_killed_sqlite_recorder_is_read(tmp_path, merged):
    whole = texts("x", "sqlite3", tmp_path / "whole")
    killed = tmp_path / "killed"
    killed.mkdir()
    command = [sys.executable, "-c", KILLED, whole / "whole.db3", killed / "killed_0.db3"]
    subprocess.run([*map(str, command), str(merged)], check=True)
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    assert "killed_0.db3-wal" in before
    (files,) = find_bags(killed)
    with BagReader(files) as reader:
        assert [message.msg.data for message in reader.messages()] == EXPECTED
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before


def foreign(path: Path, encoding: str) -> Path:
    """An mcap with a text topic in some encoding beside JSON, protobuf and schemaless ones."""
    ros1 = encoding == "ros1"
    with path.open("wb") as file:
        writer = McapWriter(file, compression=CompressionType.NONE)
        writer.start(profile="" if not ros1 else "ros1", library="test")
        name, kind = ("std_msgs/String", "ros1msg") if ros1 else (STRING, "ros2msg")
        schema = writer.register_schema(name, kind, b"string data\n")
        channel = writer.register_channel("/text", encoding, schema)
        others = [
            writer.register_channel(
                "/pose", "json", writer.register_schema("P", "jsonschema", b"{}")
            ),
            writer.register_channel(
                "/image", "protobuf", writer.register_schema("I", "protobuf", b"?")
            ),
            writer.register_channel("/raw", "json", 0),
        ]
        for i in range(COUNT):
            message = (OLD if ros1 else STORE).types[STRING](data=f"x{i}")
            serialize = OLD.serialize_ros1 if ros1 else STORE.serialize_cdr
            writer.add_message(channel, 100 + i, bytes(serialize(message, STRING)), 100 + i)
            writer.add_message(others[i % 3], 100 + i, b"{}", 100 + i)
        writer.finish()
    return path


@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
def test_an_mcap_with_channels_of_others(tmp_path, encoding):
    with BagReader(foreign(tmp_path / "mixed.mcap", encoding)) as reader:
        topics = {topic.name: (topic.type, topic.count) for topic in reader.topics}
        assert topics["/text"] == (STRING, COUNT)
        assert topics["/pose"] == ("P (json)", 3) and topics["/raw"] == ("no schema (json)", 2)
        assert [message.msg.data for message in reader.messages()] == EXPECTED
        assert len(list(reader.raw_messages(["/text"], 101, 104))) == 3


@pytest.mark.parametrize("mode", [None, CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_of_a_split_bag_a_damaged_file_costs_itself_alone(tmp_path, storage, mode):
    """However it is compressed, and though the files are then opened without their metadata."""
    bag = tmp_path / "drive"
    bag.mkdir()
    kept = []
    for number, prefix in enumerate("xyz"):
        options = {"mode": mode} if mode else {}
        part = texts(prefix, storage, tmp_path / f"drive_{number}", **options)
        (file,) = (file for file in part.iterdir() if file.suffix != ".yaml")
        kept.append(bag / file.name)
        file.rename(kept[-1])
    (tmp_path / "drive_0" / "metadata.yaml").rename(bag / "metadata.yaml")
    edit(bag, relative_file_paths=[file.name for file in kept], message_count=3 * COUNT)
    assert sorted(read(bag)) == sorted(f"{prefix}{i}" for prefix in "xyz" for i in range(COUNT))
    kept[1].write_bytes(b"nonsense" + kept[1].read_bytes()[8:])
    with pytest.raises(Fault, match=rf"{kept[1].name} is damaged") as caught:
        read(bag)
    assert caught.value.reason == "damaged_bag"
    (files,) = find_bags(bag)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found, lost = sound_files(files, scratch)
    assert found == [kept[0], kept[2]] and lost == [f"{kept[1].name} cannot be read"]
    assert read(kept[0]) == EXPECTED  # a bare file
    (bag / "metadata.yaml").unlink()
    kept[1].unlink()
    assert sorted(find_bags(bag)) == [(kept[0],), (kept[2],)]


def test_what_is_left_of_a_compressed_file_is_recovered(tmp_path):
    noise = np.random.default_rng(0).integers(97, 122, (50, 20_000), np.uint8)
    bag = tmp_path / "noise"
    writer = Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/a", STRING, typestore=STORE)
        for i, text in enumerate(noise):
            data = STORE.serialize_cdr(STORE.types[STRING](data=text.tobytes().decode()), STRING)
            writer.write(connection, i, data)
    (file,) = bag.glob("*.mcap.zstd")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 3 // 5])
    (recovered,), (lost,) = sound_files([bag], tmp_path)
    texts_left = read(recovered)
    assert 20 < len(texts_left) < 31 and lost.startswith("noise.mcap.zstd: its last")
    expected = [text.tobytes().decode() for text in noise]
    assert texts_left == expected[: len(texts_left)]


def test_a_damaged_compressed_message_is_refused_alone(tmp_path):
    bag = texts("x", "sqlite3", tmp_path / "bag", mode=CompressionMode.MESSAGE)
    with sqlite3.connect(bag / "bag.db3") as db:
        (data,) = db.execute("select data from messages where id = 3").fetchone()
        db.execute("update messages set data = ? where id = 3", (data[:6] + b"\xff" * 9,))
    with BagReader(bag) as reader:
        found = []
        for raw in reader.raw_messages():
            try:
                found.append(reader.deserialize(raw.data, raw.type).data)
            except Fault as fault:
                found.append(fault.reason)
    assert found == [*EXPECTED[:2], "bad_message", *EXPECTED[3:]]


def test_a_ros1_bag_gives_messages_of_ros2(tmp_path):
    """With upper-case fields, header sequence numbers, tf's old type and a type of the user's."""
    own = "my_msgs/msg/Level"
    OLD.register(get_types_from_msg("Header header\nfloat32[] level\n", own))
    header = OLD.types["std_msgs/msg/Header"](
        seq=7, stamp=OLD.types["builtin_interfaces/msg/Time"](sec=12, nanosec=34), frame_id="cam"
    )
    K = np.arange(9.0)
    roi = OLD.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    info = OLD.types["sensor_msgs/msg/CameraInfo"](
        *(header, 48, 64, "plumb_bob", np.zeros(5), K, np.eye(3).ravel(), np.arange(12.0)),
        *(1, 1, roi),
    )
    turn = OLD.types["geometry_msgs/msg/Transform"](
        OLD.types["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0),
        OLD.types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
    )
    transform = OLD.types["geometry_msgs/msg/TransformStamped"](header, "lidar", turn)
    OLD.register(
        get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", "tf/msg/tfMessage")
    )
    messages = {
        "/camera_info": info,
        "/tf": OLD.types["tf/msg/tfMessage"]([transform]),
        "/level": OLD.types[own](header, np.array([1.5, 2.5], np.float32)),
    }
    with Ros1Writer(tmp_path / "old.bag") as writer:
        for n, (topic, message) in enumerate(messages.items()):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=OLD)
            writer.write(connection, 100 + n, OLD.serialize_ros1(message, kind))
    with BagReader(tmp_path / "old.bag") as reader:
        assert {t.name: t.type for t in reader.topics} == {
            "/camera_info": "sensor_msgs/msg/CameraInfo",
            "/tf": "tf2_msgs/msg/TFMessage",
            "/level": own,
        }
        found = {message.topic: message.msg for message in reader.messages()}
        assert (reader.start_ns, reader.end_ns) == (100, 102)
    np.testing.assert_array_equal(found["/camera_info"].k, K)
    assert found["/camera_info"].header.stamp.nanosec == 34
    assert found["/tf"].transforms[0].transform.translation.y == 2.0
    np.testing.assert_array_equal(found["/level"].level, [1.5, 2.5])
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "old.bag", tmp_path / "folder" / "old_0.bag")
    assert find_bags(tmp_path / "folder") == [(tmp_path / "folder" / "old_0.bag",)]


def test_ros1_types_are_those_that_the_file_defines(tmp_path):
    """Headers without a sequence number, as some converters to mcap write them."""
    kind = "sensor_msgs/msg/Temperature"
    header = STORE.types["std_msgs/msg/Header"](
        stamp=STORE.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4), frame_id="engine"
    )
    message = STORE.types[kind](header, 21.5, 0.25)
    text, _ = STORE.generate_msgdef(kind, ros_version=1)
    with (tmp_path / "converted.mcap").open("wb") as file:
        writer = McapWriter(file, compression=CompressionType.NONE)
        writer.start(profile="ros1", library="test")
        schema = writer.register_schema("sensor_msgs/Temperature", "ros1msg", text.encode())
        channel = writer.register_channel("/temperature", "ros1", schema)
        writer.add_message(channel, 100, bytes(STORE.serialize_ros1(message, kind)), 100)
        writer.finish()
    with BagReader(tmp_path / "converted.mcap") as reader:
        (found,) = reader.messages()
    assert (found.msg.header.frame_id, found.msg.header.stamp.nanosec) == ("engine", 4)
    assert (found.msg.temperature, found.msg.variance) == (21.5, 0.25)
