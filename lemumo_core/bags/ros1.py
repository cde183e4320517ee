"""ROS 1 recordings, read as if ROS 2 had made them. Needs rosbags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from lemumo_core.bags.channel import EMPTY_CDR, Channel
from lemumo_core.bags.library_file import LibraryFile

RENAMED_TYPES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
"""Types that ROS 2 has under another name."""


class Ros1Bag(LibraryFile):
    """A ``.bag`` file of ROS 1, a ``Storage``.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        super().__init__(path, Reader(path))
        self._converter = Ros1Converter(
            {c.msgtype: c.msgdef.data for c in self.connections.values()}
        )
        self.channels = [
            Channel(
                connection.id,
                connection.topic,
                ros2_name(connection.msgtype),
                self._converter.definition(connection.msgtype),
                connection.msgcount,
                bool(getattr(connection.ext, "latching", 0)),
            )
            for connection in self.connections.values()
        ]

    def cdr(self, data: bytes, msgtype: str) -> bytes:
        """See ``LibraryFile``."""
        return self._converter.cdr(data, msgtype)


class Ros1Converter:
    """Turns serialised ROS 1 messages into CDR of ROS 2's type of that name.

    Headers lose their ``seq``; upper-case fields (``CameraInfo.K``) get ROS 2's lower case.

    Args:
        definitions: text of the ROS 1 message definitions by type.
    """

    def __init__(self, definitions: Mapping[str, str]):
        # As the file defines them: some converters write headers without ``seq``.
        self._ros1 = get_typestore(Stores.EMPTY)
        self._ros2 = get_typestore(Stores.ROS2_KILTED)
        self._own = set()
        for msgtype, text in definitions.items():
            types = get_types_from_msg(text, msgtype)
            for store in (self._ros1, self._ros2):
                new = {name: of for name, of in types.items() if name not in store.types}
                store.register(new)
            if msgtype in new:
                self._own.add(msgtype)

    def definition(self, msgtype: str) -> tuple[str, str]:
        """Return format and text of the ROS 2 definition, if ROS 2 has none of its own."""
        if msgtype not in self._own or msgtype in RENAMED_TYPES:
            return "NONE", ""
        return "MSG", self._ros2.generate_msgdef(msgtype)[0]

    def cdr(self, data: bytes, msgtype: str) -> bytes:
        """Convert one message; one that does not fit its type becomes an empty one.

        The caller's deserialisation then refuses that message alone, by name.
        """
        try:
            message = self._ros1.deserialize_ros1(data, msgtype)
            converted = _as_type(message, ros2_name(msgtype), self._ros2)
            return bytes(self._ros2.serialize_cdr(converted, ros2_name(msgtype)))
        except Exception:  # the library fails in many ways on damaged messages
            return EMPTY_CDR


def ros2_name(msgtype: str) -> str:
    """Return the name that ROS 2 has for a type of ROS 1."""
    return RENAMED_TYPES.get(msgtype, msgtype)


def _as_type(message: Any, msgtype: str, store: Typestore) -> Any:
    """Copy the fields that a type of the store has."""
    values = {}
    fields: list[tuple[str, tuple[Nodetype, Any]]] = store.fielddefs[msgtype][1]  # type: ignore[assignment]
    for name, (kind, inner) in fields:
        value = getattr(message, name if hasattr(message, name) else name.upper())
        if kind == Nodetype.NAME:
            value = _as_type(value, inner, store)
        elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE) and inner[0][0] == Nodetype.NAME:
            value = [_as_type(item, inner[0][1], store) for item in value]
        values[name] = value
    return store.types[msgtype](**values)
