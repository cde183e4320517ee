"""Opening the storage files of a bag.

What is in a bag is read from its storage files, never from ``metadata.yaml``, which people edit:
only how the files are named and compressed, and how many messages were recorded, stands there.
Needs rosbags.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rosbags.interfaces import ConnectionExtRosbag2, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError

from lemumo_core.bags.channel import Channel, Storage
from lemumo_core.bags.foreign_mcap import ForeignMcap
from lemumo_core.bags.metadata import Metadata
from lemumo_core.bags.ros1 import Ros1Bag

if sys.version_info >= (3, 14):
    from compression import zstd  # type: ignore[import-not-found]
else:
    from backports import zstd

WAL_SUFFIX = "-wal"
"""Suffix that sqlite3 appends to the name of a file for its write-ahead log."""


class Rosbag2File:
    """An ``.mcap`` or ``.db3`` file.

    Args:
        path: of the file as the user knows it.
        metadata: of the folder it lies in.

    A file that was compressed as a whole, or whose write-ahead log was not merged because its
    recorder was killed, is read from a copy that is whole.
    """

    def __init__(self, path: Path, metadata: Metadata):
        self.path = path
        self._scratch = TemporaryDirectory(prefix="lemumo_bag_")
        self._compressed_messages = metadata.compression == "message"
        self._reader = Reader(_whole_copy(path, Path(self._scratch.name)))
        try:
            self._reader.open()
        except BaseException:
            self._scratch.cleanup()
            raise
        self._connections = {connection.id: connection for connection in self._reader.connections}
        self.channels = []
        for number, connection in self._connections.items():
            assert isinstance(connection.ext, ConnectionExtRosbag2)
            offered = {qos.durability for qos in connection.ext.offered_qos_profiles}
            latched = QosDurability.TRANSIENT_LOCAL in offered
            definition = connection.msgdef.format.name, connection.msgdef.data
            self.channels.append(
                Channel(
                    number,
                    connection.topic,
                    connection.msgtype,
                    definition,
                    connection.msgcount,
                    latched or connection.topic in metadata.latched,
                )
            )
        count = self._reader.message_count
        self.start_ns, self.end_ns = (
            (self._reader.start_time, self._reader.end_time - 1) if count else (0, 0)
        )

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See ``Storage``."""
        wanted = {channel.id: channel for channel in channels}
        connections = [self._connections[number] for number in wanted]
        for connection, stamp_ns, data in self._reader.messages(connections, start_ns, stop_ns):
            whole = zstd.decompress(data) if self._compressed_messages else data
            yield wanted[connection.id], stamp_ns, whole

    def close(self) -> None:
        """See ``Storage``."""
        self._reader.close()
        self._scratch.cleanup()


def open_storage(path: Path, metadata: Metadata) -> Storage:
    """Open one storage file, of whichever kind.

    Raises:
        Exception: whatever the libraries raise for a damaged file.
    """
    if path.suffix == ".bag":
        return Ros1Bag(path)
    try:
        return Rosbag2File(path, metadata)
    except (ReaderError, KeyError):
        # The library refuses a whole mcap for one channel that is not of ROS 2.
        if path.suffix == ".mcap" and (foreign := ForeignMcap.open(path)) is not None:
            return foreign
        raise


def _whole_copy(path: Path, scratch: Path) -> Path:
    """Return the file itself if it is plain and whole, else a copy that is."""
    if path.suffix == ".zstd":
        copy = scratch / path.stem
        with path.open("rb") as file, zstd.open(file, "rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
        return copy
    wal = path.with_name(path.name + WAL_SUFFIX)
    if path.suffix == ".db3" and wal.exists() and wal.stat().st_size:
        copy = scratch / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, copy.with_name(copy.name + WAL_SUFFIX))
        connection = sqlite3.connect(copy)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        finally:
            connection.close()
        return copy
    return path
