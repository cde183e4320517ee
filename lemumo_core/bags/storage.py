"""Opening the storage files of a bag.

What is in a bag is read from its storage files, never from ``metadata.yaml``, which people edit:
only the order of the files, and how many messages were recorded, stands there.
Needs rosbags.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from rosbags.interfaces import ConnectionExtRosbag2, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError

from lemumo_core.bags import zstandard
from lemumo_core.bags.channel import Channel, Storage
from lemumo_core.bags.foreign_mcap import ForeignMcap
from lemumo_core.bags.library_file import LibraryFile
from lemumo_core.bags.metadata import COMPRESSED_SUFFIX, Metadata
from lemumo_core.bags.ros1 import Ros1Bag

WAL_SUFFIX = "-wal"
"""Suffix that sqlite3 appends to the name of a file for its write-ahead log."""


class Rosbag2File(LibraryFile):
    """An ``.mcap`` or ``.db3`` file.

    Args:
        path: of the file as the user knows it.
        metadata: of the folder it lies in.

    A file that was compressed as a whole, or whose write-ahead log was not merged because its
    recorder was killed, is read from a copy that is whole.
    """

    def __init__(self, path: Path, metadata: Metadata):
        self._scratch = TemporaryDirectory(prefix="lemumo_bag_")
        try:
            super().__init__(path, Reader(_whole_copy(path, Path(self._scratch.name))))
        except BaseException:
            self._scratch.cleanup()
            raise
        self.channels = []
        for number, connection in self.connections.items():
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

    def cdr(self, data: bytes, msgtype: str) -> bytes:
        """Decompress a message that was compressed alone, whatever the metadata says."""
        return zstandard.beginning(data) if data[:4] == zstandard.MAGIC else data

    def close(self) -> None:
        """See ``Storage``."""
        super().close()
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
    if path.suffix == COMPRESSED_SUFFIX:
        copy = scratch / path.stem
        zstandard.decompress_file(path, copy)
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
