"""Read ROS 2 bags without ROS.

Bags of any distribution, mcap or sqlite3, a recorded folder or one bare file, are read through the
``rosbags`` library. Messages are its plain dataclasses, with the field names of the ROS types.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from lemumo_core.faults import Fault

try:
    from rosbags.interfaces import Connection, QosDurability
    from rosbags.rosbag2 import Reader
    from rosbags.serde import SerdeError

    from lemumo_core.bags.types import typestore_of
except ModuleNotFoundError as error:
    MISSING: ModuleNotFoundError | None = error
else:
    MISSING = None

STORAGE_SUFFIXES = (".mcap", ".db3")


def require_rosbags() -> None:
    """Raise ImportError with the line that installs rosbags, where it is missing."""
    if MISSING is not None:
        raise ImportError(
            f'bags need the rosbags library ({MISSING}); install it: pip install "lemumo_ros[bags]"'
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
        path: a folder with ``metadata.yaml``, a ``.mcap`` or ``.db3`` file, a folder of such files
            without metadata, or a list of these.

    Types come from the definitions inside the bag where it has them, else from ROS 2 Kilted.
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
        self._readers: list[Reader] = []
        try:
            for file in (file for given in paths for file in _bag_files(Path(given))):
                self._readers.append(_open(file))
        except BaseException:
            self.close()
            raise
        self.typestore = typestore_of(
            frozenset((c.msgtype, c.msgdef.format.name, c.msgdef.data) for c in self._connections())
        )
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
        while self._readers:
            self._readers.pop().close()

    @property
    def start_ns(self) -> int:
        """Log time of the first message; 0 for an empty bag."""
        return min((r.start_time for r in self._readers if r.message_count), default=0)

    @property
    def end_ns(self) -> int:
        """Log time of the last message; 0 for an empty bag."""
        return max((r.end_time - 1 for r in self._readers if r.message_count), default=0)

    @property
    def topics(self) -> list[Topic]:
        """Every topic, by name."""
        if self._topics is None:
            counts: dict[tuple[str, str], int] = {}
            for c in self._connections():
                counts[c.topic, c.msgtype] = counts.get((c.topic, c.msgtype), 0) + c.msgcount
            self._topics = [
                Topic(name, kind, count, self._frame_id(name))
                for (name, kind), count in sorted(counts.items())
            ]
        return self._topics

    def latched(self, topic: str) -> bool:
        """Whether the topic was offered transient local, as /tf_static is."""
        return any(
            qos.durability == QosDurability.TRANSIENT_LOCAL
            for c in self._connections([topic])
            for qos in getattr(c.ext, "offered_qos_profiles", ())
        )

    def raw_messages(
        self,
        topics: Iterable[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        """Messages as recorded, in order of log time.

        Args:
            topics: None means all.
            start_ns, stop_ns: only log times in [start_ns, stop_ns); found through the bag's
                index, without reading what lies before.

        Raises:
            Fault: ``unknown_topic``, ``damaged_bag``.
        """
        wanted = self._connections(topics)
        streams = [
            _stream(reader, mine, start_ns, stop_ns)
            for reader in self._readers
            if (mine := [c for c in reader.connections if c in wanted])
        ]
        return heapq.merge(*streams, key=lambda raw: raw.stamp_ns)

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[Message]:
        """Deserialised messages in order of log time; ``topics`` None means all.

        Raises:
            Fault: ``unknown_topic``, ``damaged_bag``, or as ``deserialize``. To survive single
                broken messages iterate ``raw_messages`` and deserialise each.
        """
        for raw in self.raw_messages(topics):
            yield Message(raw.stamp_ns, raw.topic, self.deserialize(raw.data, raw.type))

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """CDR to a message whose arrays are views of ``data``.

        Raises:
            Fault: ``unknown_type`` or ``bad_message``.
        """
        if msgtype not in self.typestore.types:
            raise Fault("unknown_type", f"the bag carries no definition of {msgtype}")
        try:
            # A memoryview, because the library slices its input, which copies bytes.
            return self.typestore.deserialize_cdr(memoryview(data), msgtype)
        except (SerdeError, KeyError, IndexError) as error:
            raise Fault("bad_message", f"cannot deserialise a {msgtype}: {error}") from None

    def first(self, topic: str) -> Any:
        """First message of a topic; None where there is none or it cannot be deserialised.

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
        return str(getattr(getattr(self.first(topic), "header", None), "frame_id", ""))

    def _connections(self, topics: Iterable[str] | None = None) -> list[Connection]:
        connections = [c for reader in self._readers for c in reader.connections]
        if topics is None:
            return connections
        names = set(topics)
        if unknown := names - {c.topic for c in connections}:
            raise Fault(
                "unknown_topic",
                f"the bag has no topic {', '.join(sorted(unknown))}; it has "
                f"{', '.join(sorted({c.topic for c in connections})) or 'none'}",
            )
        return [c for c in connections if c.topic in names]


def _bag_files(path: Path) -> list[Path]:
    """What to open for a path: itself, or the files of a folder that lost its metadata."""
    if not path.exists():
        raise FileNotFoundError(f"there is no bag at {path}")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES)
        if not files:
            raise FileNotFoundError(
                f"{path} is not a bag: it holds no metadata.yaml and no .mcap or .db3 file"
            )
        return files
    if path.is_file() and path.suffix not in STORAGE_SUFFIXES:
        hint = "; convert a ROS 1 bag with rosbags-convert" if path.suffix == ".bag" else ""
        raise Fault("not_a_bag", f"{path} is neither a bag folder, a .mcap nor a .db3 file{hint}")
    return [path]


def _open(path: Path) -> Reader:
    try:
        reader = Reader(path)
        reader.open()
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # damaged files fail in many ways inside the library
        raise _damaged(path, error) from error
    return reader


def _stream(
    reader: Reader, connections: list[Connection], start_ns: int | None, stop_ns: int | None
) -> Iterator[RawMessage]:
    source = reader.messages(connections, start_ns, stop_ns)
    while True:
        try:
            connection, stamp_ns, data = next(source)
        except StopIteration:
            return
        except Exception as error:
            raise _damaged(Path(str(reader.path)), error) from error
        yield RawMessage(stamp_ns, connection.topic, connection.msgtype, data)


def _damaged(path: Path, error: Exception) -> Fault:
    suffixes = {file.suffix for file in (path.iterdir() if path.is_dir() else [path])}
    advice = [
        *["save what is left with: mcap recover FILE -o NEW"] * (".mcap" in suffixes),
        *["save what is left with: sqlite3 FILE .recover | sqlite3 NEW"] * (".db3" in suffixes),
        *["delete metadata.yaml to read the files that are there"] * path.is_dir(),
    ]
    cause = str(error) or type(error).__name__
    return Fault(
        "damaged_bag", f"{path} is damaged or was not closed: {cause}; {', or '.join(advice)}"
    )
