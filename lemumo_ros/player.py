"""Publish a bag over DDS in real time, with /clock."""

from __future__ import annotations

import importlib
import sys
import time

from lemumo_core.bags.reader import BagReader
from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.progress import Progress
from lemumo_ros.transport import select_transport

CLOCK_PERIOD_S = 0.01
SUBSCRIBER_WAIT_S = 30.0
LINGER_S = 0.5


def play(reader: BagReader, rate: float) -> int:
    """Publish every topic whose type is installed, at the bag's pace times ``rate``.

    Waits until any sensor topic has a subscriber. /clock ticks at 100 Hz and never runs
    ahead of the data. Latched topics (/tf_static) are published before the rest.

    Returns:
        Exit code: 0, or 1 if nobody subscribed within ``SUBSCRIBER_WAIT_S``.

    Raises:
        Fault: ``bad_rate``; ``empty_bag``.
        ImportError: without rclpy.
    """
    if not rate > 0:
        raise Fault("bad_rate", f"--rate {rate} must be positive")
    try:
        import rclpy
    except ImportError as error:
        raise ImportError(
            f"--live needs ROS 2: source its setup.bash, or {install_line('ros')}"
        ) from error
    from rosgraph_msgs.msg import Clock

    select_transport()
    rclpy.init()
    node = rclpy.create_node("lemumo_player")
    try:
        publishers, latched = _make_publishers(node, reader)
        clock = node.create_publisher(Clock, "/clock", 10)
        sensors = [p for name, p in publishers.items() if name not in latched]
        if not sensors:
            raise Fault("empty_bag", "the bag holds no topic of an installed type")
        if not _wait_for_subscriber(sensors):
            print(f"nobody subscribed within {SUBSCRIBER_WAIT_S:.0f} s", file=sys.stderr)
            return 1
        for message in reader.raw_messages(sorted(latched)):
            publishers[message.topic].publish(message.data)
        names = [name for name in publishers if name not in latched]
        total = sum(topic.count for topic in reader.topics if topic.name in names)
        progress = Progress("play", total)
        started, first = time.monotonic(), reader.start_ns
        next_tick = started
        for done, message in enumerate(reader.raw_messages(names)):
            due = started + (message.stamp_ns - first) / 1e9 / rate
            while (now := time.monotonic()) < due:
                if now >= next_tick:
                    clock.publish(_clock(Clock, first + int((now - started) * rate * 1e9)))
                    next_tick = now + CLOCK_PERIOD_S
                time.sleep(max(0.0, min(due, next_tick) - now))
            clock.publish(_clock(Clock, message.stamp_ns))
            publishers[message.topic].publish(message.data)
            progress.update(done + 1)
        progress.finish()
        print(f"played {total} messages in {time.monotonic() - started:.1f} s", file=sys.stderr)
        time.sleep(LINGER_S)  # let the last ones out before the publishers go
        return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _make_publishers(node, reader: BagReader):  # type: ignore[no-untyped-def]
    """Create a publisher for each topic of an importable type; also return the latched names."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    publishers, latched = {}, set()
    for topic in reader.topics:
        package, _, name = topic.type.split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            print(f"not played: {topic.name} ({topic.type} is not installed)", file=sys.stderr)
            continue
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        if reader.latched(topic.name) or topic.name == "/tf_static":
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
            latched.add(topic.name)
        publishers[topic.name] = node.create_publisher(kind, topic.name, qos)
    return publishers, latched


def _wait_for_subscriber(publishers: list) -> bool:
    """Wait until subscribers of the sensor topics have been matched, and for one second no more."""
    deadline = time.monotonic() + SUBSCRIBER_WAIT_S
    matched, since = 0, time.monotonic()
    while time.monotonic() < deadline:
        count = sum(p.get_subscription_count() > 0 for p in publishers)
        if count != matched:
            matched, since = count, time.monotonic()
        if matched and time.monotonic() - since > 1.0:
            return True
        time.sleep(0.05)
    return False


def _clock(kind, stamp_ns: int):  # type: ignore[no-untyped-def]
    message = kind()
    message.clock.sec, message.clock.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message
