"""The player cuts gaps, keeps one clock, serves late subscribers and stops at signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install '.[ros]'")
pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

import rclpy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_ros.playback import SHORTENED_GAP_S, cut_gaps, merge_transforms
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.waiting import LIMIT_S, wait_until

STORE = get_typestore(Stores.ROS2_JAZZY)
LOG_NS, SIM_NS = 1_700_000_000_000_000_000, 40_000_000_000


def new(kind, **fields):
    return STORE.types[kind](**fields)


def time_of(stamp_ns):
    sec, nanosec = divmod(stamp_ns, 10**9)
    return new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header(stamp_ns, frame="sensor"):
    return new("std_msgs/msg/Header", stamp=time_of(stamp_ns), frame_id=frame)


def write(path, messages):
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for log_ns, topic, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


@pytest.mark.parametrize("first_ns", [0, LOG_NS - 7200 * 10**9])
def test_gaps_are_cut_and_named(first_ns, capsys) -> None:
    stamps = [first_ns, LOG_NS, LOG_NS + 9 * 10**9]
    messages = [RawMessage(stamp, "/a", "x/msg/Y", b"") for stamp in stamps]
    elapsed = [elapsed_ns / 1e9 for elapsed_ns, _ in cut_gaps(messages)]
    assert elapsed == [0, SHORTENED_GAP_S, SHORTENED_GAP_S + 9]
    expected = "53.9 years" if first_ns == 0 else "2.0 hours"
    assert f"skipped {expected} without messages" in capsys.readouterr().err


def test_static_transforms_become_one_message_with_the_last_of_each_frame(tmp_path) -> None:
    def transform(child, x):
        vector = new("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0)
        rotation = new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
        pose = new("geometry_msgs/msg/Transform", translation=vector, rotation=rotation)
        kind = "geometry_msgs/msg/TransformStamped"
        one = new(kind, header=header(0, "base"), child_frame_id=child, transform=pose)
        return new("tf2_msgs/msg/TFMessage", transforms=[one])

    messages = [(LOG_NS + i, "/tf_static", transform(f"f{i}", 0.0)) for i in range(120)]
    messages += [(LOG_NS + 500, "/tf_static", transform("f3", 2.5))]
    with BagReader(write(tmp_path / "bag", messages)) as reader:
        data = merge_transforms(reader, "/tf_static")
        found = reader.deserialize(data, "tf2_msgs/msg/TFMessage").transforms
    poses = {one.child_frame_id: one.transform.translation.x for one in found}
    assert len(found) == len(poses) == 120
    assert poses["f3"] == 2.5


def command(bag, *options):
    return [sys.executable, "-m", "lemumo_core.cli.main", "replay", str(bag), "--live", *options]


def sim_bag(path):
    messages = []
    for i in range(20):
        stamp = SIM_NS + i * 10**8
        clock = new("rosgraph_msgs/msg/Clock", clock=time_of(stamp))
        messages += [(LOG_NS + i * 10**8, "/clock", clock)]
        messages += [(LOG_NS + i * 10**8 + 1, "/trigger", header(stamp))]
    return write(path, messages)


def test_recorded_clock_is_the_only_one_and_start_and_loop_hold(tmp_path, monkeypatch) -> None:
    isolate_dds(monkeypatch)
    bag = sim_bag(tmp_path / "bag")
    rclpy.init()
    node = rclpy.create_node("listener")
    clocks, stamps = [], []
    node.create_subscription(Clock, "/clock", lambda m: clocks.append(m.clock.sec), 100)
    node.create_subscription(Header, "/trigger", lambda m: stamps.append(m.stamp), 100)
    with subprocess.Popen(command(bag, "--start", "1.05", "--loop")) as player:
        try:
            wait_until(
                lambda: len(stamps) > 12,  # nine to a round
                step=lambda: rclpy.spin_once(node, timeout_sec=0.05),
            )
            player.send_signal(signal.SIGTERM)
            assert player.wait(LIMIT_S) == 128 + signal.SIGTERM
        finally:
            player.kill()
            node.destroy_node()
            rclpy.try_shutdown()
    assert set(clocks) == {SIM_NS // 10**9 + 1}
    assert min(s.sec * 10**9 + s.nanosec for s in stamps) == SIM_NS + 11 * 10**8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_waiting_is_shown_and_ends_at_a_signal(number, tmp_path, monkeypatch) -> None:
    isolate_dds(monkeypatch)
    log = tmp_path / "log"
    with log.open("w") as file:
        player = subprocess.Popen(command(sim_bag(tmp_path / "bag")), stderr=file)
    try:
        wait_until(lambda: "waiting up to" in log.read_text(), "the line about waiting")
        player.send_signal(number)
        assert player.wait(LIMIT_S) == 128 + number
    finally:
        player.kill()
        player.wait()
    assert "nobody subscribed" not in log.read_text()
