"""Read bags without ROS.

Bags of any ROS 2 distribution, mcap or sqlite3, and of ROS 1, a recorded folder or one bare file,
are read through the ``rosbags`` library. Messages are its plain dataclasses, with the field names
of the ROS 2 types.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from lemumo_core.bags.channel import Channel, Storage
from lemumo_core.bags.metadata import BAG_SUFFIXES, Metadata, read_metadata, storage_files
from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.files import uri_cure
from lemumo_core.messages.compressed_clouds import LIVOX_TYPES, livox_cloud
from lemumo_core.messages.stamps import header_of

try:
    from rosbags.serde import SerdeError

    from lemumo_core.bags.storage import open_storage
    from lemumo_core.bags.types import typestore_of
except ModuleNotFoundError as error:
    MISSING: ModuleNotFoundError | None = error
else:
    MISSING = None


def require_rosbags() -> None:
    """Raise ImportError with the line that installs rosbags, where it is missing."""
    if MISSING is not None:
        raise ImportError(
            f"bags need the rosbags library ({MISSING}); install it: {install_line('bags')}"
        )


@dataclass(frozen=True)
class Topic:
    """One topic of a bag; ``frame_id`` is that of the first message, '' where there is none."""

    name: str
    type: str
    count: int
    frame_id: str


class Message(NamedTuple):
    """A deserialised message; ``stamp_ns`` is the log time, arrays are read-only views."""

    stamp_ns: int
    topic: str
    msg: Any


class RawMessage(NamedTuple):
    """A message as recorded: ``data`` is CDR with its 4-byte header, as rclpy publishes it."""

    stamp_ns: int
    topic: str
    type: str
    data: bytes


class BagReader:
    """One or more bags, read as one in the order of their log times. A context manager.

    Args:
        path: a folder of ``.mcap``, ``.db3`` or ``.bag`` files, with ``metadata.yaml`` or without,
            one such file, or a list of these.

    Types come from the definitions inside the bag where it has them, else from ROS 2 Kilted and
    ``sensor_types``.
    Topics of other types stay listed and can be read raw.

    Raises:
        ImportError: rosbags is not installed; the message says how.
        FileNotFoundError: nothing is there, or a folder holds no bag.
        Fault: ``not_a_bag`` for another kind of file, ``damaged_bag`` for one that cannot be read
            (also later, while messages are read).
    """

    def __init__(self, path: str | Path | Sequence[str | Path]):
        require_rosbags()
        paths = [path] if isinstance(path, str | Path) else list(path)
        if not paths:
            raise FileNotFoundError("no bag given")
        self._storages: list[Storage] = []
        try:
            for given in paths:
                self._storages += _open(Path(given))
        except BaseException:
            self.close()
            raise
        self.typestore = typestore_of(frozenset((c.type, *c.definition) for c in self._channels()))
        self._topics: list[Topic] | None = None

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file; the reader is of no use afterwards."""
        while self._storages:
            self._storages.pop().close()

    @property
    def start_ns(self) -> int:
        """Log time of the first message; 0 for an empty bag."""
        return min((s.start_ns for s in self._storages if _count(s)), default=0)

    @property
    def end_ns(self) -> int:
        """Log time of the last message; 0 for an empty bag."""
        return max((s.end_ns for s in self._storages if _count(s)), default=0)

    @property
    def topics(self) -> list[Topic]:
        """All topics, sorted by name."""
        if self._topics is None:
            counts: dict[tuple[str, str], int] = {}
            for c in self._channels():
                counts[c.topic, c.type] = counts.get((c.topic, c.type), 0) + c.count
            self._topics = [
                Topic(name, kind, count, self._frame_id(name))
                for (name, kind), count in sorted(counts.items())
            ]
        return self._topics

    def latched(self, topic: str) -> bool:
        """Return whether the topic was offered transient local, as /tf_static is."""
        return any(channel.latched for channel in self._channels([topic]))

    def raw_messages(
        self,
        topics: Iterable[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        """Return messages as recorded, in order of log time.

        Args:
            topics: None means all.
            start_ns: earliest log time; found through the bag's index, without reading what lies
                before.
            stop_ns: log time to stop before.

        Raises:
            Fault: ``unknown_topic``, ``damaged_bag``.
        """
        names = {channel.topic for channel in self._channels(topics)}
        streams = [
            _stream(storage, mine, start_ns, stop_ns)
            for storage in self._storages
            if (mine := [c for c in storage.channels if c.topic in names])
        ]
        return heapq.merge(*streams, key=lambda raw: raw.stamp_ns)

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[Message]:
        """Yield deserialised messages in order of log time; ``topics`` None means all.

        Raises:
            Fault: ``unknown_topic``, ``damaged_bag``, or as ``deserialize``. To survive single
                broken messages iterate ``raw_messages`` and deserialise each.
        """
        for raw in self.raw_messages(topics):
            yield Message(raw.stamp_ns, raw.topic, self.deserialize(raw.data, raw.type))

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """Deserialise CDR to a message whose arrays are views of ``data``.

        Of a Livox CustomMsg it is the PointCloud2 that it stands for.

        Raises:
            Fault: ``unknown_type`` or ``bad_message``.
        """
        if msgtype in LIVOX_TYPES:
            return livox_cloud(data)
        if msgtype not in self.typestore.types:
            raise Fault("unknown_type", f"the bag carries no definition of {msgtype}")
        try:
            # A memoryview, because the library slices its input, which copies bytes.
            return self.typestore.deserialize_cdr(memoryview(data), msgtype)
        except (SerdeError, KeyError, IndexError) as error:
            raise Fault("bad_message", f"cannot deserialise a {msgtype}: {error}") from None

    def first(self, topic: str) -> Any:
        """Return the first message of a topic; None where none can be deserialised.

        Raises:
            Fault: ``unknown_topic``, ``damaged_bag``.
        """
        try:
            return next((message.msg for message in self.messages([topic])), None)
        except Fault as fault:
            if fault.reason in ("unknown_type", "bad_message"):
                return None
            raise

    def _frame_id(self, topic: str) -> str:
        message = self.first(topic)
        is_stamped = hasattr(message, "header") or hasattr(message, "timestamp")
        return str(getattr(header_of(message), "frame_id", "")) if is_stamped else ""

    def _channels(self, topics: Iterable[str] | None = None) -> list[Channel]:
        channels = [channel for storage in self._storages for channel in storage.channels]
        if topics is None:
            return channels
        names = set(topics)
        if unknown := names - {channel.topic for channel in channels}:
            raise Fault(
                "unknown_topic",
                f"the bag has no topic {', '.join(sorted(unknown))}; it has "
                f"{', '.join(sorted({c.topic for c in channels})) or 'none'}",
            )
        return [channel for channel in channels if channel.topic in names]


def _open(path: Path) -> list[Storage]:
    """Open the storage files at a path: a file, or those of a folder."""
    if not path.exists():
        raise FileNotFoundError(f"there is no bag at {path}{uri_cure(path)}")
    metadata, files = Metadata(), [path]
    if path.is_dir():
        metadata = read_metadata(path)
        files = storage_files(path, metadata)
        if not files:
            raise FileNotFoundError(
                f"{path} is not a bag: it holds no .mcap, .db3 or .bag file"
                + (", as its metadata.yaml says" * bool(metadata.files))
            )
    elif not path.name.endswith(BAG_SUFFIXES):
        raise Fault("not_a_bag", f"{path} is neither a bag folder, a .mcap, .db3 nor .bag file")
    opened: list[Storage] = []
    try:
        for file in files:
            opened.append(_open_file(file, metadata))
    except BaseException:
        for storage in opened:
            storage.close()
        raise
    return opened


def _open_file(file: Path, metadata: Metadata) -> Storage:
    try:
        return open_storage(file, metadata)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # damaged files fail in many ways inside the libraries
        raise _damaged(file, error) from error


def _count(storage: Storage) -> int:
    return sum(channel.count for channel in storage.channels)


def _stream(
    storage: Storage, channels: list[Channel], start_ns: int | None, stop_ns: int | None
) -> Iterator[RawMessage]:
    source = storage.messages(channels, start_ns, stop_ns)
    while True:
        try:
            channel, stamp_ns, data = next(source)
        except StopIteration:
            return
        except Exception as error:
            raise _damaged(storage.path, error) from error
        yield RawMessage(stamp_ns, channel.topic, channel.type, data)


def _damaged(file: Path, error: Exception) -> Fault:
    if file.is_file() and not file.stat().st_size:
        return Fault("damaged_bag", f"{file} is empty: nothing was recorded into it")
    ours = "replay, prepare and inspect read what is left, other tools after: "
    save = "save what is left with: "
    cures = {
        ".mcap": f"{ours}mcap recover {file} -o NEW",
        ".db3": f"{save}sqlite3 {file} .recover | sqlite3 NEW",
        ".bag": f"{save}rosbag reindex {file}",
        ".zstd": f"{save}zstd -d {file}, and recover what it writes",
    }
    cause = str(error) or type(error).__name__
    return Fault(
        "damaged_bag", f"{file} is damaged or was not closed: {cause}; {cures[file.suffix]}"
    )
