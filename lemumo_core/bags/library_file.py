"""Storage files that the rosbags library reads. Needs rosbags."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lemumo_core.bags.channel import EMPTY_CDR, Channel


class LibraryFile:
    """A storage file with a reader of the library, a ``Storage``.

    Args:
        path: of the file as the user knows it.
        reader: a reader of the library, which is opened.

    Attributes:
        connections: the library's, by their numbers.
    """

    channels: list[Channel]

    def __init__(self, path: Path, reader: Any):
        self.path = path
        self._reader = reader
        self._reader.open()
        self.connections = {connection.id: connection for connection in reader.connections}
        count = reader.message_count
        self.start_ns: int = reader.start_time if count else 0
        self.end_ns: int = reader.end_time - 1 if count else 0

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See ``Storage``."""
        wanted = {channel.id: channel for channel in channels}
        connections = [self.connections[number] for number in wanted]
        for connection, stamp_ns, data in self._reader.messages(connections, start_ns, stop_ns):
            try:
                data = self.cdr(data, connection.msgtype)
            except ValueError:  # this message alone is refused, by name
                data = EMPTY_CDR
            yield wanted[connection.id], stamp_ns, data

    def cdr(self, data: bytes, msgtype: str) -> bytes:
        """Convert a message as stored to CDR of ROS 2.

        Raises:
            ValueError: it is damaged.
        """
        raise NotImplementedError

    def close(self) -> None:
        """See ``Storage``."""
        self._reader.close()
