"""Bags changed message by message, and Frames compared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.frame import LidarScan

FRAMES = 6
"""Frames of the ``small_bag`` fixture."""


def write_messages(out: Path, messages: Iterable[tuple[int, str, Any]]) -> Path:
    """Write messages of ``RosbagsBuilder`` as a bag.

    Args:
        out: bag folder.
        messages: log time (ns), topic and message, in any order.
    """
    build = RosbagsBuilder()
    with Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for log_ns, topic, message in sorted(messages, key=lambda one: one[0]):
            if topic not in connections:
                kind = message.__msgtype__
                connections[topic] = writer.add_connection(topic, kind, typestore=build.typestore)
            writer.write(connections[topic], log_ns, build.serialize(message))
    return out


def rewrite(source, out, change=None, storage="mcap", between=None):
    """Copy a bag, message by message.

    Args:
        change: (raw, message) to (log time, bytes or message), or None to leave it out.
        between: log times [start, stop) to copy.
    """
    with (
        BagReader(source) as reader,
        Writer(out, version=8, storage_plugin=StoragePlugin[storage.upper()]) as writer,
    ):
        connections = {}
        for raw in reader.raw_messages(None, *(between or (None, None))):
            result = raw.stamp_ns, raw.data
            if change:
                result = change(raw, reader.deserialize(bytearray(raw.data), raw.type))
            if result is None:
                continue
            if raw.topic not in connections:
                connections[raw.topic] = writer.add_connection(
                    raw.topic, raw.type, typestore=reader.typestore
                )
            log_ns, data = result
            if not isinstance(data, bytes):
                data = reader.typestore.serialize_cdr(data, raw.type)
            writer.write(connections[raw.topic], log_ns, data)
    return out


def assert_equal_frames(one, other, atol=0.0):
    assert (one.stamp_ns, one.camera) == (other.stamp_ns, other.camera)
    np.testing.assert_array_equal(one.image, other.image)
    assert type(one.companion) is type(other.companion)
    if isinstance(one.companion, LidarScan):
        assert one.companion.stamp_ns == other.companion.stamp_ns
        np.testing.assert_array_equal(one.companion.points, other.companion.points)
        T, expected = one.companion.T_camera_lidar, other.companion.T_camera_lidar
        np.testing.assert_allclose(T, expected, rtol=0, atol=atol)


def without(*topics):
    """A change for ``rewrite``: leave topics out."""
    return lambda raw, message: None if raw.topic in topics else (raw.stamp_ns, raw.data)


def copy_topic(source, out, topic, copy):
    """Copy a bag, with the messages of one topic on another one too."""
    with (
        BagReader(source) as reader,
        Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {}
        for raw in reader.raw_messages():
            for name in (raw.topic, copy) if raw.topic == topic else (raw.topic,):
                if name not in connections:
                    connections[name] = writer.add_connection(
                        name, raw.type, typestore=reader.typestore
                    )
                writer.write(connections[name], raw.stamp_ns, raw.data)
    return out
