"""MCAP files that not only ROS 2 wrote: converted from ROS 1, or with JSON and protobuf channels.

Needs rosbags and mcap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel as McapChannel
from mcap.records import Schema

from lemumo_core.bags.channel import Channel
from lemumo_core.bags.ros1 import Ros1Converter, ros2_name

FORMATS = {"ros2msg": "MSG", "ros2idl": "IDL", "omgidl": "IDL"}
CDR, ROS1 = "cdr", "ros1"


class ForeignMcap:
    """A sound mcap file of any profile, a ``Storage``.

    Its CDR and ROS 1 channels can be read; the others are listed, and give no message.

    Args:
        path: of the file.
        channels, schemas: of its summary, by their numbers.
        counts: number of messages by channel.
        start_ns, end_ns: log times of the first and last message.
    """

    def __init__(
        self,
        path: Path,
        channels: dict[int, McapChannel],
        schemas: dict[int, Schema],
        counts: dict[int, int],
        span_ns: tuple[int, int],
    ):
        self.path, (self.start_ns, self.end_ns) = path, span_ns
        self._file = path.open("rb")
        self._reader = make_reader(self._file)
        names = {n: _ros_name(schemas[c.schema_id]) for n, c in channels.items() if c.schema_id}
        self._ros1_types = {n: names[n] for n, c in channels.items() if c.message_encoding == ROS1}
        self._converter = Ros1Converter(
            {
                name: schemas[channels[n].schema_id].data.decode()
                for n, name in self._ros1_types.items()
            }
        )
        self._readable = {
            n for n, c in channels.items() if c.message_encoding in (CDR, ROS1) and n in names
        }
        self.channels = []
        for number, channel in channels.items():
            definition, kind = ("NONE", ""), names.get(number, "")
            if number in self._ros1_types:
                definition, kind = self._converter.definition(kind), ros2_name(kind)
            elif number in self._readable:
                schema = schemas[channel.schema_id]
                definition = FORMATS.get(schema.encoding, "NONE"), schema.data.decode()
            else:
                kind = f"{kind or 'no schema'} ({channel.message_encoding})"
            offered = channel.metadata.get("offered_qos_profiles", "")
            latched = "transient_local" in offered or "durability: 1" in offered
            count = counts.get(number, 0)
            self.channels.append(Channel(number, channel.topic, kind, definition, count, latched))

    @classmethod
    def open(cls, path: Path) -> ForeignMcap | None:
        """Open a file; None where it is damaged, too."""
        try:
            with path.open("rb") as file:
                summary = make_reader(file).get_summary()
        except (McapError, EOFError, ValueError):
            return None
        if summary is None or summary.statistics is None:
            return None
        about = summary.statistics
        span_ns = about.message_start_time, about.message_end_time
        counts = about.channel_message_counts
        return cls(path, summary.channels, summary.schemas, counts, span_ns)

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See ``Storage``."""
        wanted = {channel.id: channel for channel in channels if channel.id in self._readable}
        topics = {channel.topic for channel in wanted.values()}
        if not topics:
            return
        for _, channel, message in self._reader.iter_messages(
            list(topics), starting_at=start_ns, ending_before=stop_ns
        ):
            if channel.id not in wanted:
                continue
            data = message.data
            if channel.id in self._ros1_types:
                data = self._converter.cdr(data, self._ros1_types[channel.id])
            yield wanted[channel.id], message.log_time, data

    def close(self) -> None:
        """See ``Storage``."""
        self._file.close()


def _ros_name(schema: Schema) -> str:
    """Return a type's name in ROS 2's form, for mcap's of ROS 1 leave ``/msg/`` out."""
    package, _, name = schema.name.rpartition("/")
    if schema.encoding != "ros1msg" or not package or package.endswith("/msg"):
        return schema.name
    return f"{package}/msg/{name}"
