"""Publish a bag over DDS in real time, with /clock."""

from __future__ import annotations

import importlib
import sys
import time

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.video import start_of_videos
from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.progress import Progress
from lemumo_core.wording import count_of
from lemumo_ros.playback import cut_gaps, merge_transforms
from lemumo_ros.transport import select_transport

CLOCK = "/clock"
CLOCK_PERIOD_S = 0.01
SUBSCRIBER_WAIT_S = 30.0
LINGER_S = 0.5


def play(reader: BagReader, rate: float = 1.0, start_s: float = 0.0, loop: bool = False) -> int:
    """Publish every topic whose type is installed, at the bag's pace times ``rate``.

    Waits until any sensor topic has a subscriber. A bag's own /clock is published as recorded;
    otherwise /clock ticks at 100 Hz in log time and never runs ahead of the data. The transforms of
    /tf_static are published first, as one latched message. Long gaps are shortened. Where the bag
    holds a video, playing begins at the last key frame before ``start_s``.

    Args:
        reader: the bag.
        rate: speed; 1 is that of the recording.
        start_s: seconds of log time to skip.
        loop: begin again at the end, until a signal comes; /clock then jumps back.

    Returns:
        Exit code: 0, or 1 if nobody subscribed within ``SUBSCRIBER_WAIT_S``.

    Raises:
        Fault: ``bad_rate``; ``bad_start``; ``empty_bag``.
        ImportError: without rclpy.
    """
    if not rate > 0:
        raise Fault("bad_rate", f"--rate {rate} must be positive")
    duration_s = (reader.end_ns - reader.start_ns) / 1e9
    if not 0 <= start_s <= duration_s:
        raise Fault("bad_start", f"--start {start_s}: the bag lasts {duration_s:.1f} s")
    try:
        import rclpy
        from rclpy.signals import SignalHandlerOptions
    except ImportError as error:
        raise ImportError(
            f"--live needs ROS 2: source its setup.bash, or {install_line('ros')}"
        ) from error
    from rosgraph_msgs.msg import Clock

    select_transport()
    # rclpy's handlers would keep SIGTERM and Ctrl-C from the command, which stops at them.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("lemumo_player")
    try:
        publishers, static = _make_publishers(node, reader)
        clock = None if CLOCK in publishers else node.create_publisher(Clock, CLOCK, 10)
        played = [name for name in publishers if name not in static]
        sensors = [publishers[name] for name in played if name != CLOCK]
        if not sensors:
            raise Fault("empty_bag", "the bag holds no topic of an installed type")
        if not _wait_for_subscriber(sensors):
            print(f"nobody subscribed within {SUBSCRIBER_WAIT_S:.0f} s", file=sys.stderr)
            return 1
        for name in static:
            publishers[name].publish(merge_transforms(reader, name))
        first_ns = reader.start_ns + round(start_s * 1e9)
        if start_s:
            first_ns = min([first_ns, *start_of_videos(reader, played, first_ns).values()])

        def publish_clock(stamp_ns: int) -> None:
            if clock is not None:
                clock.publish(_clock(Clock, stamp_ns))

        while True:
            total = sum(topic.count for topic in reader.topics if topic.name in played)
            with Progress("play", total) as progress:
                started = time.monotonic()
                for elapsed_ns, message in cut_gaps(reader.raw_messages(played, first_ns)):
                    due = started + elapsed_ns / 1e9 / rate
                    while (now := time.monotonic()) < due:
                        publish_clock(message.stamp_ns - int((due - now) * rate * 1e9))
                        progress.update(progress.done)
                        time.sleep(min(due - now, CLOCK_PERIOD_S))
                    publish_clock(message.stamp_ns)
                    publishers[message.topic].publish(message.data)
                    progress.advance()
                count, seconds = progress.done, progress.elapsed_s
            words = count_of(count, "message")
            print(f"played {words} in {seconds:.1f} s", file=sys.stderr, flush=True)
            time.sleep(LINGER_S)  # let the last ones out before the publishers go
            if not loop:
                return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _make_publishers(node, reader: BagReader):  # type: ignore[no-untyped-def]
    """Create a publisher per topic of an importable type; return static transforms' names too."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    publishers, static = {}, set()
    for topic in reader.topics:
        package, _, name = topic.type.split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            print(f"not played: {topic.name} ({topic.type} is not installed)", file=sys.stderr)
            continue
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        is_static = name == "TFMessage" and topic.name.endswith("/tf_static")
        if is_static:
            static.add(topic.name)
        if is_static or reader.latched(topic.name):
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        publishers[topic.name] = node.create_publisher(kind, topic.name, qos)
    return publishers, static


def _wait_for_subscriber(publishers: list) -> bool:
    """Wait until subscribers of the sensor topics have been matched, and for one second no more."""
    print(
        f"play: waiting up to {SUBSCRIBER_WAIT_S:.0f} s for a subscriber",
        file=sys.stderr,
        flush=True,
    )
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
